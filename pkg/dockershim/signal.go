package dockershim

import "golang.org/x/sys/unix"

// signalNumber is the kernel's number of a signal, 0 for a name that is not known.
func signalNumber(name string) int { return int(unix.SignalNum(name)) }
