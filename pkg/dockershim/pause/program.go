package pause

import (
	"encoding/binary"
	"fmt"
)

// Numbers of the Linux ABI that are the same on amd64 and arm64.
const (
	sigInt, sigTerm, sigChld = 2, 15, 17

	sigBlock   = 0 // rt_sigprocmask: add to the blocked signals
	sigIgn     = 1 // SIG_IGN, as a handler
	sigSetSize = 8 // bytes of the kernel's signal set
	eIntr      = 4
)

// The program's constants, which lie before its code.
const (
	waitedFor  = 0             // the signal set {SIGINT, SIGTERM}
	ignoring   = waitedFor + 8 // a struct sigaction: handler, flags, restorer, mask
	dataLength = ignoring + 4*8
)

func data() []byte {
	d := make([]byte, dataLength)
	binary.LittleEndian.PutUint64(d[waitedFor:], 1<<(sigInt-1)|1<<(sigTerm-1))
	binary.LittleEndian.PutUint64(d[ignoring:], sigIgn)
	return d
}

// syscalls are the numbers of the system calls that the program makes.
type syscalls struct{ sigaction, sigprocmask, sigtimedwait, exitGroup int32 }

// assembler appends machine code of one architecture. Arguments of system calls
// are numbered from 0.
type assembler interface {
	numbers() syscalls
	// set makes argument arg the number v, which is not negative.
	set(arg int, v int32)
	// point makes argument arg the address of the constant at data[offset].
	point(arg int, offset int)
	// call makes the system call nr.
	call(nr int32)
	// jumpIfInterrupted goes back to position to if the call returned -EINTR.
	jumpIfInterrupted(to int)
	// setFromSign makes argument 0 of the next call 1 if the last one failed, else 0.
	setFromSign()
	// position is the length of the code so far.
	position() int
	code() []byte
}

// assemble writes the program:
//
//	rt_sigprocmask(SIG_BLOCK, {SIGINT, SIGTERM}, NULL, 8)
//	rt_sigaction(SIGCHLD, {SIG_IGN}, NULL, 8)
//	do r = rt_sigtimedwait({SIGINT, SIGTERM}, NULL, NULL, 8) while (r == -EINTR)
//	exit_group(r < 0)
//
// The signals are blocked first; those that arrive before are lost. EINTR comes when the
// process was stopped and continued, or traced. Any other failure ends the program, since it
// would fail for ever.
func assemble(a assembler) []byte {
	n := a.numbers()

	a.set(0, sigBlock)
	a.point(1, waitedFor)
	a.set(2, 0)
	a.set(3, sigSetSize)
	a.call(n.sigprocmask)

	a.set(0, sigChld)
	a.point(1, ignoring)
	a.set(2, 0)
	a.set(3, sigSetSize)
	a.call(n.sigaction)

	wait := a.position()
	a.point(0, waitedFor)
	a.set(1, 0)
	a.set(2, 0)
	a.set(3, sigSetSize)
	a.call(n.sigtimedwait)
	a.jumpIfInterrupted(wait)

	a.setFromSign()
	a.call(n.exitGroup)
	return a.code()
}

// Program is the pause program for a CPU architecture, as an ELF file.
func Program(arch string) ([]byte, error) {
	switch arch {
	case "amd64":
		return elfFile(machineAMD64, data(), assemble(&amd64{})), nil
	case "arm64":
		return elfFile(machineARM64, data(), assemble(&arm64{})), nil
	}
	return nil, fmt.Errorf("no pause program for architecture %q, only for amd64 and arm64: name another sandbox image", arch)
}
