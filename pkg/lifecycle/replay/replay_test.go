package replay

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
)

func line(t *testing.T, function, input, output string) string {
	t.Helper()
	text, err := json.Marshal(journal.ShownDecision{Seq: 7, Function: function, Pod: "web", Input: json.RawMessage(input), Output: output})
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// What a bundle holds besides, and hostile ones: TestHostileBundlesAreRefused of cmd/mini-kubelet.
func TestWhatIsWrittenIsMadeAgain(t *testing.T) {
	decisions := line(t, worker.Decide, `{"phase":1}`, "syncing, is looked at again") + line(t, worker.Decide, `{"phase":1}`, "syncing, is gone") +
		line(t, "of tomorrow", `{}`, "nothing") + line(t, worker.Decide, `[]`, "syncing")
	var bundle, told bytes.Buffer
	if err := Write(&bundle, map[string][]byte{VersionsFile: []byte(`{"bundle":1,"miniKubelet":"v1\u001b[2J","kernel":"6.1"}`), DecisionsFile: []byte(decisions)}); err != nil {
		t.Fatal(err)
	}
	versions, result, err := Read(&bundle, &told)
	if want := (Result{Equal: 1, Differ: 2, Unknown: 1}); err != nil || result != want {
		t.Errorf("%+v, %v; want %+v", result, err, want)
	}
	if other := versions.Other("v2"); other != `the bundle is of mini-kubelet v1\u001b[2J (kernel 6.1), and this program is v2` || versions.Other("v1\x1b[2J") != "" {
		t.Errorf("%q", other)
	}
	if other := (Versions{}).Other("v2"); !strings.Contains(other, "does not say its version, and") {
		t.Errorf("%q", other)
	}
	if lines := strings.Split(told.String(), "\n"); len(lines) != 3 ||
		!strings.HasSuffix(lines[0], ` decide web: recorded "syncing, is gone", now "syncing, is looked at again"`) || !strings.Contains(lines[1], `now "an error: read the input`) {
		t.Errorf("%q", told.String())
	}
}
