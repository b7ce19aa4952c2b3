#!/bin/sh
# embed.sh OUTPUT FATBIN...: assembler source that holds the files and sur_gpu_fatbins (gpu/fatbins.h), a table of them.
set -eu
output=$1
shift
{
    echo '    .section .rodata'
    for file; do
        name=$(basename "$file" .fatbin)
        printf '    .balign 64\n.L%s:\n    .incbin "%s"\n.L%s_end:\n' "$name" "$file" "$name"
        printf '.L%s_name:\n    .asciz "%s"\n' "$name" "$name"
    done
    printf '    .section .data.rel.ro,"aw"\n    .balign 8\n'
    printf '    .globl sur_gpu_fatbins\n    .hidden sur_gpu_fatbins\n    .type sur_gpu_fatbins, %%object\n'
    echo 'sur_gpu_fatbins:'
    for file; do
        name=$(basename "$file" .fatbin)
        printf '    .quad .L%s_name, .L%s, .L%s_end - .L%s\n' "$name" "$name" "$name" "$name"
    done
    echo '    .quad 0, 0, 0'
    echo '    .size sur_gpu_fatbins, . - sur_gpu_fatbins'
    echo '    .section .note.GNU-stack,"",%progbits'
} >"$output"
