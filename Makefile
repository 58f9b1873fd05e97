# Trapeze. `make help` lists the targets; HACKING.md tells the rest.
#
# One non-recursive file. Every mode has a build tree of its own: m=rel is build/, m=asan is build/asan/ and so on. What a
# tree was built with is kept in its file `flags`: other flags, another compiler, rebuild it.

.SUFFIXES:
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules

m ?= rel
MODES := rel dbg asan ubsan tsan cov fuzz
ifeq ($(filter $(m),$(MODES)),)
$(error m=$(m): give one of $(MODES))
endif

GOALS := $(or $(MAKECMDGOALS),all)
ifneq ($(filter-out clean help,$(GOALS)),)
ifneq ($(filter-out clean help lint,$(GOALS)),)
ifeq ($(wildcard build/config.mk),)
$(error Run ./configure first (./configure --deps also installs what is missing))
endif
include build/config.mk
else
-include build/config.mk # lint configures by itself, and does what it can if that fails
endif
build/config.mk: configure
	./configure $(CONFIGURE_ARGS)
endif

HOST_FPU ?= $(HOST_FPU_DEFAULT)
ifeq ($(filter $(HOST_FPU),native portable $(HOST_FPU_DEFAULT)),)
ifneq ($(HOST_FPU),)
$(error HOST_FPU=$(HOST_FPU): give native or portable)
endif
endif
TREE := $(filter-out rel,$(m))$(if $(filter $(HOST_FPU),$(HOST_FPU_DEFAULT)),,$(if $(filter rel,$(m)),,-)$(HOST_FPU))
B := $(patsubst %/,%,build/$(TREE))

# --- Flags --------------------------------------------------------------------------------------------------------------

OPT_rel := -O2
OPT_dbg := -Og
OPT_asan := -O1 -fsanitize=address -fno-omit-frame-pointer
OPT_ubsan := -O1 -fsanitize=undefined -fno-sanitize-recover=undefined
OPT_tsan := -O1 -fsanitize=thread
OPT_cov := -O1 --coverage
OPT_fuzz := -O1 -fsanitize=address,fuzzer-no-link -fno-omit-frame-pointer
WARNINGS := -Wall -Wextra -Wno-unused-parameter
CFLAGS_ALL := -std=gnu11 -D_GNU_SOURCE -g $(WARNINGS) $(OPT_$(m)) -pthread -I. -Ibuild $(PKG_CFLAGS) $(EXTRA_CFLAGS)
LDFLAGS_ALL := $(OPT_$(m)) -pthread $(EXTRA_LDFLAGS)
LIBS := $(PKG_LIBS) -lm
COMPILE = $(CC) $(CFLAGS_ALL)
LINK = $(CC) $(LDFLAGS_ALL)
AR ?= ar

ifeq ($(V),1)
Q :=
say := @:
else
Q := @
say := @printf '  %-5s %s\n'
endif

# --- Sources ------------------------------------------------------------------------------------------------------------

FPU_UNUSED := $(if $(filter native,$(HOST_FPU)),%_portable.c,%_native.c)
JIT_UNUSED := $(if $(HOST_JIT),,accel/jit.c accel/check%.c)
KVM_UNUSED := $(if $(HOST_KVM),,accel/kvm%.c)
URING_UNUSED := $(if $(HOST_URING),,hw/backend/blk_uring.c)
SRCS := $(filter-out $(FPU_UNUSED) $(JIT_UNUSED) $(KVM_UNUSED) $(URING_UNUSED),$(wildcard cpu/*.c accel/*.c hw/*.c hw/*/*.c ui/*.c) \
	$(if $(HOST_JIT),$(wildcard tcg/*.c tcg/$(HOST_JIT)/*.c)))
AML := $(patsubst pc-bios/%.asl,$(B)/obj/pc-bios/%.aml.o,$(wildcard pc-bios/*.asl))
LIB_OBJS := $(patsubst %.c,$(B)/obj/%.o,$(filter-out ui/main.c ui/img%.c,$(SRCS))) $(AML)
LIB := $(B)/libtrapeze.a

# tests/<group>/<name>.c is a test program, an executable tests/<group>/<name>.py a test as it is; tests/lib is linked
# with each program; tests/inside are programs that tests run within a guest; tests/fuzz and tests/bench are no tests for
# `check`.
TEST_LIB_SRCS := $(wildcard tests/lib/*.c)
TEST_SRCS := $(filter-out tests/lib/% tests/inside/% tests/fuzz/% tests/bench/%,$(wildcard tests/*/*.c))
TEST_SCRIPTS := $(filter-out tests/lib/% tests/inside/% tests/fuzz/% tests/bench/%,$(wildcard tests/*/*.py))
TEST_LIB_OBJS := $(TEST_LIB_SRCS:%.c=$(B)/obj/%.o)
INSIDE := $(if $(filter x86_64,$(HOST_JIT)),$(patsubst %.c,$(B)/%,$(wildcard tests/inside/*.c)))
FUZZ_SRCS := $(wildcard tests/fuzz/*.c)
FUZZERS := $(FUZZ_SRCS:%.c=$(B)/%)
BENCHES := $(patsubst %.c,$(B)/%,$(wildcard tests/bench/*.c))
# T=device/i8254, T=device or several of them; by default all.
T_PATTERNS := $(addsuffix %,$(addprefix tests/,$(T)))
SELECTED_SRCS := $(if $(T),$(filter $(T_PATTERNS),$(TEST_SRCS)),$(TEST_SRCS))
SELECTED_SCRIPTS := $(if $(T),$(filter $(T_PATTERNS),$(TEST_SCRIPTS)),$(TEST_SCRIPTS))
SELECTED := $(SELECTED_SRCS:%.c=$(B)/%) $(SELECTED_SCRIPTS)

# A change of flags, or a source file that is gone, must rebuild what it was in.
ifneq ($(filter-out clean help format lint,$(GOALS)),)
define remember
ifneq ($$(file <$(B)/$(1)),$(2))
$$(shell mkdir -p $(B))
$$(file >$(B)/$(1),$(2))
endif
endef
$(eval $(call remember,flags,$(COMPILE)))
$(eval $(call remember,link,$(LINK) $(LIBS)))
$(eval $(call remember,objects,$(sort $(LIB_OBJS))))
endif

# --- Rules --------------------------------------------------------------------------------------------------------------

all: $(B)/trapeze $(B)/trapeze-img

$(B)/obj/%.o: %.c $(B)/flags build/config.h
	$(say) CC $<
	@mkdir -p $(@D)
	$(Q)$(COMPILE) -MMD -MP -c -o $@ $<

$(B)/obj/%.aml: %.asl
	$(say) IASL $<
	@mkdir -p $(@D)
	$(Q)iasl -vs -p $(@:.aml=) $< >$@.log 2>&1 || { cat $@.log; false; }

# AML as a C array: const uint8_t aml_dsdt[], aml_dsdt_size.
$(B)/obj/%.aml.c: $(B)/obj/%.aml
	@{ echo 'extern const unsigned char aml_$(*F)[];'; echo 'extern const unsigned aml_$(*F)_size;'; \
	echo 'const unsigned char aml_$(*F)[] = {'; od -An -v -tu1 $< | sed 's/\([0-9][0-9]*\)/\1,/g'; echo '};'; \
	echo 'const unsigned aml_$(*F)_size = sizeof aml_$(*F);'; } >$@

$(B)/obj/%.aml.o: $(B)/obj/%.aml.c $(B)/flags
	$(Q)$(COMPILE) -c -o $@ $<

$(LIB): $(LIB_OBJS) $(B)/objects
	$(say) AR $@
	@rm -f $@
	$(Q)$(AR) rcs $@ $(LIB_OBJS)

$(B)/trapeze: $(B)/obj/ui/main.o $(LIB) $(B)/link
	$(say) LINK $@
	$(Q)$(LINK) -o $@ $(filter %.o %.a,$^) $(LIBS)

$(B)/trapeze-img: $(patsubst %.c,$(B)/obj/%.o,$(wildcard ui/img*.c)) $(LIB) $(B)/link
	$(say) LINK $@
	$(Q)$(LINK) -o $@ $(filter %.o %.a,$^) $(LIBS)

$(B)/tests/fuzz/%: $(B)/obj/tests/fuzz/%.o $(TEST_LIB_OBJS) $(LIB) $(B)/link
	$(say) LINK $@
	@mkdir -p $(@D)
	$(Q)$(LINK) -fsanitize=fuzzer -o $@ $(filter %.o %.a,$^) $(LIBS)

# Never with sanitizers: they would have to be in the guest, too.
$(B)/tests/inside/%: tests/inside/%.c $(B)/flags
	$(say) CC $@
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE -O2 $(WARNINGS) -pthread -o $@ $<

$(B)/tests/%: $(B)/obj/tests/%.o $(TEST_LIB_OBJS) $(LIB) $(B)/link
	$(say) LINK $@
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $(filter %.o %.a,$^) $(LIBS)

# --- Targets ------------------------------------------------------------------------------------------------------------

# What tests find in their environment: TRAPEZE the program, ACCEL the engine asked for, BUILD the build tree, TIME_SCALE
# how many times slower than rel this kind of build is: it stretches time limits, and above 1 the longest tests do less.
# GLib's own locks are futexes, which TSan does not see: what it reports inside GLib is not a race.
SLOWER_dbg := 3
SLOWER_asan := 4
SLOWER_ubsan := 3
SLOWER_tsan := 15
SLOWER_cov := 3
TEST_ENV = TRAPEZE=$(B)/trapeze ACCEL='$(ACCEL)' BUILD=$(B) TIME_SCALE=$(or $(SLOWER_$(m)),1) \
	UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=ignore_noninstrumented_modules=1
JOBS ?= $(shell nproc 2>/dev/null || echo 1)

ifeq ($(m),fuzz)
# Each target for FUZZ_SECONDS; a crash leaves its input in the tree.
FUZZ_SECONDS ?= 20
check: $(FUZZERS)
	$(Q)set -e; for f in $(FUZZERS); do echo "  FUZZ  $$f"; \
	$$f -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -artifact_prefix=$(B)/; done
else
check: $(SELECTED) $(B)/trapeze $(B)/trapeze-img $(INSIDE)
	$(if $(strip $(SELECTED)),,$(error T=$(T): no test of that name; they are tests/*/*))
	$(Q)$(TEST_ENV) prove -j $(JOBS) $(SELECTED) :: --tap
endif

shift: $(B)/trapeze $(INSIDE)
	$(Q)$(TEST_ENV) prove -v tests/boot/shift.py :: --long

kvm-nested: $(B)/trapeze $(INSIDE) $(patsubst %.c,$(B)/%,$(wildcard tests/guest/*.c))
	$(Q)$(TEST_ENV) prove -v tests/boot/kvm_nested.py :: --long

demo: $(B)/trapeze
	@tests/boot/demo $(B)/trapeze $(if $(KERNEL),--kernel '$(KERNEL)') $(if $(INITRD),--initrd '$(INITRD)') \
	$(if $(ACCEL),--accel '$(ACCEL)')

bench: $(B)/trapeze $(BENCHES) $(INSIDE)
	@tests/bench/run $(B)
	@tests/bench/linux $(B)
	@tests/bench/disk $(B)

# Every guest of tests/boot N times, by the JIT unless ACCEL says otherwise; G="cloud seabios" chooses.
boots: $(B)/trapeze
	@ACCEL='$(ACCEL)' TIME_SCALE=$(or $(SLOWER_$(m)),1) tests/bench/boots $(B) $(or $(N),50) $(G)

lint:
	@CC='$(COMPILE)' tests/lint

format:
	$(Q)git ls-files '*.c' '*.h' | xargs clang-format -i

debug:
	$(Q)$(MAKE) m=dbg all
	gdb -q -x tests/lib/debug.gdb --args build/dbg/trapeze $(ARGS)

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1
	install $(B)/trapeze $(B)/trapeze-img $(DESTDIR)$(PREFIX)/bin
	install -m 644 ui/trapeze.1 ui/trapeze-img.1 $(DESTDIR)$(PREFIX)/share/man/man1

clean:
	$(Q)[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name 'config.*' -exec rm -rf {} +

help:
	@echo 'make              build/trapeze and build/trapeze-img (./configure first)'
	@echo 'make demo         boots a Linux to a shell on this terminal; KERNEL=FILE INITRD=FILE ACCEL=ENGINE'
	@echo 'make check        all tests; T=device/i8254 or T="unit insn" selects, ACCEL=ENGINE, JOBS=N'
	@echo 'make shift        a guest moves between all engines at random, for a few minutes (a shorter form is in check)'
	@echo 'make kvm-nested   guests under KVM within Debian'"'"'s QEMU, for some minutes (a shorter form is in check)'
	@echo 'make bench        speed, side by side with QEMU if it is there'
	@echo 'make boots        every guest 50 times in a row; N=TIMES G="cloud seabios" ACCEL=ENGINE'
	@echo 'make lint         layers, headers, sizes of files and functions'
	@echo 'make format       clang-format over the tree'
	@echo 'make debug        a debug build under gdb; ARGS="-kernel ..."'
	@echo 'make install      to $(or $(PREFIX),PREFIX); DESTDIR=DIR'
	@echo 'make clean        removes what was built'
	@echo
	@echo 'With each: m=$(subst $(eval) ,|,$(MODES)) chooses the kind of build (its tree is build/KIND), V=1 shows the'
	@echo 'commands, CC=COMPILER, HOST_FPU=portable calculates x87 and SSE without the host'"'"'s unit.'

.PHONY: all check shift kvm-nested demo bench boots lint format debug install clean help

ifneq ($(filter-out clean help format lint,$(GOALS)),)
-include $(LIB_OBJS:.o=.d) $(B)/obj/ui/main.d $(patsubst %.c,$(B)/obj/%.d,$(wildcard ui/img*.c)) $(TEST_SRCS:%.c=$(B)/obj/%.d) $(TEST_LIB_OBJS:.o=.d)
-include $(FUZZ_SRCS:%.c=$(B)/obj/%.d) $(BENCHES:$(B)/%=$(B)/obj/%.d)
endif
