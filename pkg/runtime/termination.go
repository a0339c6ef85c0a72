package runtime

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/criconfig"
)

// Limits of a termination message, the kubelet's.
const (
	maxMessageBytes = 4096
	maxLogBytes     = 2048
	maxLogLines     = 80
)

// terminationMessage reads what an ended container has left as its last words:
// the file at its terminationMessagePath, or with FallbackToLogsOnError, when that
// is empty and the container has failed, the end of its log.
func terminationMessage(c *cri.ContainerStatus, recorded criconfig.Recorded) string {
	for _, m := range c.Mounts {
		if recorded.TerminationMessagePath == "" || m.ContainerPath != recorded.TerminationMessagePath {
			continue
		}
		if text := head(m.HostPath, maxMessageBytes); text != "" {
			return text
		}
	}
	if recorded.TerminationMessagePolicy == v1.TerminationMessageFallbackToLogsOnError && c.ExitCode != 0 {
		return logEnd(c.LogPath)
	}
	return ""
}

// head reads the beginning of a regular file, and nothing of anything else.
func head(name string, limit int64) string {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return ""
	}
	data, _ := io.ReadAll(io.LimitReader(f, limit))
	return strings.ToValidUTF8(string(data), "\uFFFD")
}

// logEnd returns the text of the last lines of a CRI log.
func logEnd(name string) string {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return ""
	}
	// Each line carries its time, stream and tag besides: read enough for all.
	const window = maxLogBytes + maxLogLines*64
	from := max(0, fi.Size()-window)
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return ""
	}
	lines := bufio.NewScanner(io.LimitReader(f, window))
	lines.Buffer(make([]byte, 0, 4096), window)
	var text [][]byte
	for first := true; lines.Scan(); first = false {
		if first && from > 0 {
			continue // the rest of a line
		}
		fields := bytes.SplitN(lines.Bytes(), []byte(" "), 4)
		if len(fields) < 4 {
			continue
		}
		line := bytes.Clone(fields[3])
		if string(fields[2]) == "F" {
			line = append(line, '\n')
		}
		text = append(text, line)
	}
	text = text[max(0, len(text)-maxLogLines):]
	all := bytes.Join(text, nil)
	return strings.ToValidUTF8(string(all[max(0, len(all)-maxLogBytes):]), "\uFFFD")
}
