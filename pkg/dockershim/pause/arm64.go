package pause

import "encoding/binary"

// arm64 assembles for AArch64: the number of a system call goes into x8, its
// arguments into x0 to x5; the result comes in x0. An instruction has 32 bits.
type arm64 struct{ out []byte }

const numberRegister = 8

func (a *arm64) numbers() syscalls {
	return syscalls{sigaction: 134, sigprocmask: 135, sigtimedwait: 137, exitGroup: 94}
}

func (a *arm64) emit(instruction uint32) {
	a.out = binary.LittleEndian.AppendUint32(a.out, instruction)
}

func (a *arm64) set(arg int, v int32) {
	a.emit(0xd2800000 | uint32(v)&0xffff<<5 | uint32(arg)) // movz x<arg>, #v (up to 16 bits)
}

func (a *arm64) point(arg, offset int) {
	distance := uint32(offset - dataLength - len(a.out)) // from this instruction
	// adr x<arg>, distance: the two lowest bits stand apart from the other 19.
	a.emit(0x10000000 | distance&3<<29 | distance>>2&(1<<19-1)<<5 | uint32(arg))
}

func (a *arm64) call(nr int32) {
	a.set(numberRegister, nr)
	a.emit(0xd4000001) // svc #0
}

func (a *arm64) jumpIfInterrupted(to int) {
	a.emit(0x3100001f | eIntr<<10) // cmn w0, #EINTR: compares with -EINTR
	distance := uint32(to-len(a.out)) >> 2
	a.emit(0x54000000 | distance&(1<<19-1)<<5) // b.eq to
}

func (a *arm64) setFromSign() {
	a.emit(0x531f7c00) // lsr w0, w0, #31
}

func (a *arm64) position() int { return len(a.out) }

func (a *arm64) code() []byte { return a.out }
