package pause

import "encoding/binary"

// amd64 assembles for x86-64: the number of a system call goes into eax, its
// arguments into rdi, rsi, rdx, r10; the result comes in rax.
type amd64 struct{ out []byte }

// amd64Args are the registers of the arguments as instructions number them;
// those from 8 on need a bit in a prefix.
var amd64Args = [...]byte{7 /* rdi */, 6 /* rsi */, 2 /* rdx */, 10 /* r10 */}

const (
	rexW = 0x48 // prefix: operands of 64 bits
	rexB = 0x41 // prefix: register 8 to 15 in the opcode
	rexR = 0x04 // bit of a prefix: register 8 to 15 in ModRM.reg
)

func (a *amd64) numbers() syscalls {
	return syscalls{sigaction: 13, sigprocmask: 14, sigtimedwait: 128, exitGroup: 231}
}

func (a *amd64) emit(code ...byte) { a.out = append(a.out, code...) }

func (a *amd64) emit32(v int32) { a.out = binary.LittleEndian.AppendUint32(a.out, uint32(v)) }

func (a *amd64) set(arg int, v int32) {
	r := amd64Args[arg]
	if r >= 8 {
		a.emit(rexB)
	}
	a.emit(0xb8 | r&7) // mov r32, v: clears the upper half as well
	a.emit32(v)
}

func (a *amd64) point(arg, offset int) {
	r := amd64Args[arg]
	prefix := byte(rexW)
	if r >= 8 {
		prefix |= rexR
	}
	a.emit(prefix, 0x8d, r&7<<3|5) // lea r64, [rip + distance]
	// The distance counts from the next instruction.
	a.emit32(int32(offset - dataLength - (len(a.out) + 4)))
}

func (a *amd64) call(nr int32) {
	a.emit(0xb8) // mov eax, nr
	a.emit32(nr)
	a.emit(0x0f, 0x05) // syscall
}

func (a *amd64) jumpIfInterrupted(to int) {
	a.emit(0x83, 0xf8, 0x100-eIntr) // cmp eax, -EINTR
	distance := to - (len(a.out) + 2)
	a.emit(0x74, byte(int8(distance))) // je to
}

func (a *amd64) setFromSign() {
	a.emit(0x89, 0xc7)     // mov edi, eax
	a.emit(0xc1, 0xef, 31) // shr edi, 31
}

func (a *amd64) position() int { return len(a.out) }

func (a *amd64) code() []byte { return a.out }
