package grpcsocket

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
)

func TestASocketThatGoesBeforeItIsServedIsGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s := &Server{GRPC: grpc.NewServer(grpc.WaitForHandlers(true)), Listener: l, Path: path, Connections: 1}
	if err := s.serve(t.Context()); !errors.Is(err, errGone) {
		t.Errorf("got %v, want %v: it is to be made anew soon", err, errGone)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is left: %v", err)
	}
}
