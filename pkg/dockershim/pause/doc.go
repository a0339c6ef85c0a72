// Package pause is the program and the image of the sandbox container, which holds
// a pod's namespaces while its containers come and go. The dockershim's image
// service puts it into Docker; nothing is pulled and no binary lies in the source.
//
//	program (program.go: 5 steps) ──assembler per CPU──▶ machine code ──▶ ELF (elf.go) ──▶ image
//
// The program is a few hundred bytes that touch two pages of memory. It
//   - waits for SIGTERM or SIGINT and ends with status 0 when one comes. The kernel
//     drops signals that a namespace's PID 1 does not handle, but keeps blocked
//     ones, so the program blocks the two and waits for them;
//   - ignores SIGCHLD, which makes the kernel reap its children by itself, also
//     those orphaned to it in a shared PID namespace, at no wake-up at all;
//   - else sleeps for ever.
package pause
