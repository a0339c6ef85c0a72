// Command exchange exchanges two names for each other, as often as it can until it is
// killed: what a hostile container does to a volume that it shares. No applet of
// busybox can.
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: exchange NAME OTHER")
		os.Exit(2)
	}
	for n := 0; ; n++ {
		err := unix.Renameat2(unix.AT_FDCWD, os.Args[1], unix.AT_FDCWD, os.Args[2], unix.RENAME_EXCHANGE)
		if err != nil {
			fmt.Fprintf(os.Stderr, "after %d times: %v\n", n, err)
			os.Exit(1)
		}
	}
}
