# A guest in one boot sector. It sleeps until its ACPI power button is pressed (`virsh shutdown`), and powers itself off.
# With PANIC defined, it tells the pvpanic device two seconds after boot that its kernel panicked.
#
#   as --32 [--defsym PANIC=1] guest.S -o guest.o && ld -m elf_i386 -Ttext 0x7c00 -e start --oformat binary guest.o
#
# The ports are those of QEMU's `pc` machine under SeaBIOS: PM1a status, enable and control at 0x600, 0x602 and 0x604
# (ACPI, section 4.8.3), pvpanic at 0x505.
.code16
.globl start
start:
    xor %ax, %ax
    mov %ax, %ss
    mov $0x7c00, %sp
    mov $0x602, %dx             # let the power button show in the status register
    mov $0x100, %ax
    out %ax, %dx
    mov $36, %cx                # two seconds of the BIOS timer's ticks
rest:
    sti
    hlt
.ifdef PANIC
    dec %cx
    jnz button
    mov $0x505, %dx
    mov $1, %al
    out %al, %dx
.endif
button:
    mov $0x600, %dx
    in %dx, %ax
    test $0x100, %ax
    jz rest
    mov $0x604, %dx             # sleep state S5, now
    mov $0x2000, %ax
    out %ax, %dx
    jmp rest
.org 510
.word 0xaa55
