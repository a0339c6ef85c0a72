package testrun

import (
	"os"
	"syscall"
	"testing"
)

// WriteProgram writes a file that is to be run. Meanwhile this process starts no other one: until that has begun, it has
// the file open for writing as well, and then the kernel runs it for nobody ("text file busy").
func WriteProgram(t testing.TB, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
