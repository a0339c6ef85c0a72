package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/replay"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
)

// KeepBundles is the environment variable with the directory in which the bundle of each agent is kept, for `mini-kubelet
// replay` and the page. Without it they are only looked at.
const KeepBundles = "MINI_KUBELET_BUNDLES"

// bundles is what agents of this process have left.
var bundles tally

// tally counts agents by what they have left when they were stopped. It may be used concurrently.
type tally struct {
	mu                sync.Mutex
	left, empty, none int // agents with decisions, with none to make, and without an answer
	decisions         int
}

func (c *tally) add(decisions int, answered bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case decisions > 0:
		c.left++
	case answered:
		c.empty++
	default:
		c.none++
	}
	c.decisions += decisions
}

// close says what agents have left. With many of them it fails if none has left anything: then nothing is looked at any more.
func (c *tally) close(w io.Writer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left+c.empty+c.none == 0 {
		return nil
	}
	fmt.Fprintf(w, "bundles: %d agents left %d decisions, which were made again; %d agents had none to make, %d were killed or did not answer\n",
		c.left, c.decisions, c.empty, c.none)
	if all := c.left + c.empty + c.none; all >= 20 && c.left == 0 {
		return fmt.Errorf("of %d agents none left a decision", all)
	}
	return nil
}

// checkBundle makes the decisions of the running agent again, and fails the test if any comes out differently, if one holds a
// secret, or if there is none although the journal tells of one. An agent that does not answer leaves none.
func (a *Agent) checkBundle(journal []byte) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	text, err := a.local(ctx, server.DecisionsPath, nil)
	if refused := (*refusedError)(nil); errors.As(err, &refused) {
		a.t.Errorf("agent %s leaves no bundle: %v", a.Node, err)
		return
	}
	if err != nil { // it has ended, or hangs
		a.t.Logf("agent %s leaves no bundle: %v", a.Node, err)
		return
	}
	a.answered = true
	for _, leak := range Leaks(text) {
		a.t.Errorf("the decisions of agent %s have the secret %s", a.Node, leak)
	}
	a.decisions += a.replay(text, journal)
	dir := os.Getenv(KeepBundles)
	if dir == "" {
		return
	}
	if err := a.keepBundle(ctx, dir, text, journal); err != nil {
		a.t.Errorf("keep the bundle of agent %s: %v", a.Node, err)
	}
}

// replay makes decisions again and returns how many there are.
func (a *Agent) replay(decisions, journal []byte) int {
	a.t.Helper()
	var differ bytes.Buffer
	result, err := replay.Decisions(bytes.NewReader(decisions), &differ)
	switch {
	case err != nil:
		a.t.Errorf("make the decisions of agent %s again: %v", a.Node, err)
	case result.Differ > 0:
		a.t.Errorf("of %d decisions of agent %s %d come out differently:\n%s", result.Equal+result.Differ, a.Node, result.Differ, differ.String())
	case result.Unknown > 0:
		a.t.Errorf("%d decisions of agent %s cannot be made again", result.Unknown, a.Node)
	}
	all := result.Equal + result.Differ
	if all == 0 && bytes.Contains(journal, []byte(`"kind":"plan"`)) {
		a.t.Errorf("agent %s has decided, says its journal, and remembers no decision", a.Node)
	}
	return all
}

var notInFileNames = regexp.MustCompile(`[^\w.-]+`)

// keepBundle writes the bundle to a directory, and reads it as `mini-kubelet replay` does.
func (a *Agent) keepBundle(ctx context.Context, dir string, decisions, journal []byte) error {
	versions, err := a.local(ctx, server.VersionsPath, nil)
	if err != nil {
		return err
	}
	configz, err := a.local(ctx, "/configz", nil)
	if err != nil {
		a.t.Logf("the bundle of agent %s has no configuration: %v", a.Node, err)
	}
	var bundle, differ bytes.Buffer
	if err := replay.Write(&bundle, map[string][]byte{
		replay.VersionsFile: versions, replay.ConfigFile: configz, replay.JournalFile: journal, replay.DecisionsFile: decisions,
	}); err != nil {
		return err
	}
	name := strings.Trim(notInFileNames.ReplaceAllString(a.t.Name(), "-"), "-") + "." + a.Node + "." + time.Now().Format("150405.000") + ".mkb"
	if err := os.WriteFile(filepath.Join(dir, name), bundle.Bytes(), 0o600); err != nil {
		return err
	}
	_, _, err = replay.Read(&bundle, &differ)
	return err
}
