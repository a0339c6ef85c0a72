package machine

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Swap returns how many bytes of swap the machine has, and whether it swaps at all. A kernel without
// /proc/swaps cannot.
func Swap() (total int64, on bool, err error) {
	text, err := os.ReadFile("/proc/swaps")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("find out the machine's swap: %w", err)
	}
	total, on = parseSwaps(text)
	return total, on, nil
}

// parseSwaps reads /proc/swaps: a head, then a line for each place, whose third column from the right is its size in
// KiB. Names may hold anything.
func parseSwaps(text []byte) (total int64, on bool) {
	first := true
	for line := range bytes.Lines(bytes.TrimSpace(text)) {
		if first {
			first = false
			continue
		}
		on = true
		fields := bytes.Fields(line)
		if n := len(fields); n >= 5 {
			if kib, err := strconv.ParseInt(string(fields[n-3]), 10, 64); err == nil {
				total += kib << 10
			}
		}
	}
	return total, on
}

// LimitsSwap reports whether the kernel can limit the swap of cgroups, and whether it has cgroup v2 only.
func LimitsSwap() (limits, v2 bool) {
	const root = "/sys/fs/cgroup"
	file := filepath.Join(root, "memory", "memory.memsw.limit_in_bytes")
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		// The root has no such file: that of the agent's own cgroup counts.
		own := strings.TrimPrefix(Line("/proc/self/cgroup"), "0::")
		file, v2 = filepath.Join(root, filepath.Clean("/"+own), "memory.swap.max"), true
	}
	_, err := os.Stat(file)
	return err == nil, v2
}
