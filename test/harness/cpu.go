package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// CPUTime is the processor time that all threads of a process have used, to the
// nanosecond. Threads that have ended are not included.
func CPUTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("process %d has no threads to read", pid)
	}
	var sum time.Duration
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		onCPU, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(onCPU, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", f, err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// Millicores is the processor time that a process uses over a period, in
// thousandths of a core.
func Millicores(pid int, over time.Duration) (float64, error) {
	before, err := CPUTime(pid)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	time.Sleep(over)
	after, err := CPUTime(pid)
	if err != nil {
		return 0, err
	}
	return 1000 * (after - before).Seconds() / time.Since(began).Seconds(), nil
}
