package testrun

import (
	"net"
	"testing"
)

// Accept calls do with each connection, one after the other, until the test ends, and closes the listener then.
func Accept(t testing.TB, l net.Listener, do func(net.Conn)) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			do(c)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
}
