// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Replaces libbpf's header of this name. The test uses the kernel structs of bpf/kernel.h, and nothing is relocated.
#ifndef PSCOPE_TEST_BPF_CORE_READ_H
#define PSCOPE_TEST_BPF_CORE_READ_H

#define core_read_2(a, b) ((a)->b)
#define core_read_3(a, b, c) ((a)->b->c)
#define core_read_n(a, b, c, n, ...) n
#define BPF_CORE_READ(...) core_read_n(__VA_ARGS__, core_read_3, core_read_2, none)(__VA_ARGS__)
#define bpf_core_read(to, size, from) bpf_probe_read_kernel(to, size, (const void *)(from))
#define bpf_core_type_size(type) sizeof(type)
#define bpf_core_type_id_kernel(type) 0
// Only compared with the offset of another field of the same object.
#define bpf_core_field_offset(field) ((u64) & (field))
extern bool kernel_has_fields;
#define bpf_core_field_exists(field) (kernel_has_fields && sizeof(field) > 0)

// Null stands for a kernel without this function (before Linux 6.2).
#define bpf_rdonly_cast (*rdonly_cast)

#endif
