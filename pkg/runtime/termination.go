package runtime

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path"
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
	maxLogLine      = 16 << 10 // of text; runtimes split longer ones
)

// neverRan is the runtime's reason for a container that could not be started: it
// has no log of its own.
const neverRan = "ContainerCannotRun"

// terminationMessage reads what an ended container has left as its last words:
// the file at its terminationMessagePath, or with FallbackToLogsOnError, when that
// is empty and the container has failed, the end of its log. What the runtime says
// of the end goes before it.
func terminationMessage(c *cri.ContainerStatus, recorded criconfig.Recorded) string {
	said := lastWords(c, recorded)
	switch {
	case said == "":
		return c.Message
	case c.Message == "":
		return said
	}
	return c.Message + ": " + said
}

func lastWords(c *cri.ContainerStatus, recorded criconfig.Recorded) string {
	for _, m := range c.Mounts {
		if recorded.TerminationMessagePath == "" || path.Clean(m.ContainerPath) != path.Join("/", recorded.TerminationMessagePath) {
			continue
		}
		if text := fileEnd(m.HostPath, maxMessageBytes); text != "" {
			return text
		}
	}
	if recorded.TerminationMessagePolicy == v1.TerminationMessageFallbackToLogsOnError && c.ExitCode != 0 && c.Reason != neverRan {
		return logEnd(c.LogPath)
	}
	return ""
}

// fileEnd reads the last bytes of a regular file, and nothing of anything else:
// the container may have put a link or a pipe in its place.
func fileEnd(name string, limit int64) string {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return ""
	}
	data, _ := io.ReadAll(io.NewSectionReader(f, max(0, fi.Size()-limit), limit))
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
	// Each line carries its time, stream and tag besides, and the first one that is
	// needed may be as long as the runtime makes them: read enough for all.
	const window = maxLogBytes + maxLogLines*64 + maxLogLine
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
