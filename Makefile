# Trapeze. `make help` lists the targets; HACKING.md tells the rest.
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
m ?= rel
B := build/$(m)
ifeq ($(m),rel)
B := build
endif
CC ?= cc
PKGS := glib-2.0 capstone
CFLAGS_rel := -O2
CFLAGS_dbg := -Og
CFLAGS_asan := -O1 -fsanitize=address -fno-omit-frame-pointer
CFLAGS_ubsan := -O1 -fsanitize=undefined -fno-sanitize-recover=undefined
CFLAGS_tsan := -O1 -fsanitize=thread
CFLAGS_cov := -O1 --coverage
CFLAGS := -std=gnu11 -g -Wall -Wextra -Wno-unused-parameter $(CFLAGS_$(m)) -I. -I$(B) -pthread $(shell pkg-config --cflags $(PKGS))
LDLIBS := $(shell pkg-config --libs $(PKGS)) -lm -lmpfr -lgmp -pthread -no-pie -Wl,--warn-unresolved-symbols

SRCS := $(wildcard cpu/*.c tcg/*.c accel/*.c hw/*/*.c ui/*.c)
LIB_OBJS := $(patsubst %.c,$(B)/obj/%.o,$(filter-out ui/main.c,$(SRCS)))
TEST_SRCS := $(wildcard tests/*/*.c)
TESTS := $(patsubst tests/%.c,$(B)/tests/%,$(TEST_SRCS))

all: $(B)/trapeze
$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<
$(B)/libtrapeze.a: $(LIB_OBJS)
	@rm -f $@
	@ar rcs $@ $^
$(B)/trapeze: $(B)/obj/ui/main.o $(B)/libtrapeze.a
	$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)
$(B)/tests/%: $(B)/obj/tests/%.o $(B)/libtrapeze.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)
check: $(TESTS)
	prove $(TESTS)
clean:
	rm -rf build
.PHONY: all check clean
.SECONDARY:
-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
