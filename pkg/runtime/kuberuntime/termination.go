package kuberuntime

import (
	"bytes"
	"path"
	"path/filepath"
	"strings"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
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

// terminationMessage returns the last words of a container that has ended: the file
// at its terminationMessagePath or, with FallbackToLogsOnError, if that is empty
// and the container has failed, the end of its log. The runtime's own message comes
// first.
func terminationMessage(c *cri.ContainerStatus, recorded pods.Recorded) string {
	said := lastWords(c, recorded)
	switch {
	case said == "":
		return c.Message
	case c.Message == "":
		return said
	}
	return c.Message + ": " + said
}

func lastWords(c *cri.ContainerStatus, recorded pods.Recorded) string {
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

// fileEnd returns the last bytes of a regular file, and nothing of anything else: the
// container may have replaced it with a link or a pipe.
func fileEnd(name string, limit int64) string {
	dir, base := filepath.Split(name)
	data, _, err := safefile.ReadEnd(dir, base, limit)
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(string(data), "\uFFFD")
}

// logEnd returns the text of the last lines of a CRI log.
func logEnd(name string) string {
	// Each line also has its time, stream and tag, and the first line needed may be
	// as long as the runtime makes them: read enough for all.
	const window = maxLogBytes + maxLogLines*64 + maxLogLine
	dir, base := filepath.Split(name)
	data, whole, err := safefile.ReadEnd(dir, base, window)
	if err != nil {
		return ""
	}
	if !whole {
		_, data, _ = bytes.Cut(data, []byte("\n")) // the rest of a line
	}
	var text [][]byte
	for l := range bytes.Lines(data) {
		fields := bytes.SplitN(bytes.TrimSuffix(l, []byte("\n")), []byte(" "), 4)
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
