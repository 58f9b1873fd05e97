# For `make debug`: macros that print processors and the memory map of the machine in the program. They call nothing in it, so they work
# on a core file too. They leave the main thread selected; `thread N` goes back.
set print pretty on
handle SIGUSR1 SIGPIPE nostop noprint pass

define main_session
    thread 1
    frame function main
end
document main_session
Selects the frame of main(), where s is the session and s.m the machine.
end

define vcpu
    main_session
    set $c = s.m->cpus[0]
    if $argc > 0
        set $c = s.m->cpus[$arg0]
    end
    printf "rax %016lx  rcx %016lx  rdx %016lx  rbx %016lx\n", $c->r[0], $c->r[1], $c->r[2], $c->r[3]
    printf "rsp %016lx  rbp %016lx  rsi %016lx  rdi %016lx\n", $c->r[4], $c->r[5], $c->r[6], $c->r[7]
    printf "r8  %016lx  r9  %016lx  r10 %016lx  r11 %016lx\n", $c->r[8], $c->r[9], $c->r[10], $c->r[11]
    printf "r12 %016lx  r13 %016lx  r14 %016lx  r15 %016lx\n", $c->r[12], $c->r[13], $c->r[14], $c->r[15]
    printf "block at rip %016lx  rflags %08lx  cpl %u  code size %u  events %#x  ", $c->rip, $c->rflags, $c->cpl, $c->code_size, $c->events
    output $c->activity
    printf "\n"
    printf "cr0 %08lx  cr2 %016lx  cr3 %016lx  cr4 %08lx  efer %04lx\n", $c->cr0, $c->cr2, $c->cr3, $c->cr4, $c->efer
    printf "gdt %016lx %04x  idt %016lx %04x\n", $c->gdtr.base, $c->gdtr.limit, $c->idtr.base, $c->idtr.limit
    set $k = 0
    while $k < 8
        output (enum seg)$k
        printf "  %04x base %016lx limit %08x attr %06x\n", $c->seg[$k].selector, $c->seg[$k].base, $c->seg[$k].limit, $c->seg[$k].attr
        set $k = $k + 1
    end
end
document vcpu
vcpu [N]: registers of processor N. All of it: p *s.m->cpus[N]
end

define flat_view
    set $v = $arg0
    set $k = 0
    while $k < $v->count
        printf "%016lx-%016lx  %s  host %p read-only %d\n", $v->ranges[$k].start, $v->ranges[$k].last, $v->ranges[$k].region->name, $v->ranges[$k].host, $v->ranges[$k].read_only
        set $k = $k + 1
    end
end

define mtree
    main_session
    flat_view s.m->memory.view
end
document mtree
What the guest's physical memory map holds now.
end

define ptree
    main_session
    flat_view s.m->ports.view
end
document ptree
What the guest's ports lead to.
end
