// Package netdump lists what the kernel's netlink tells: links, addresses, routes. Where these
// come and go while a list is made, as on every node that starts pods, the kernel says that it may
// have gaps, and it has to be made again.
package netdump

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// attempts bounds how often a list is made: who changes links all the time ends in an error, not in a loop.
const attempts = 100

// Whole returns a list that nothing changed under. The error is list's; netlink.ErrDumpInterrupted
// says that there never was a quiet moment, and comes without a list.
func Whole[T any](list func() ([]T, error)) ([]T, error) {
	var err error
	for range attempts {
		var all []T
		if all, err = list(); err == nil {
			return all, nil
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return nil, err
}
