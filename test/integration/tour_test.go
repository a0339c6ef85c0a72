package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

var updateTour = flag.Bool("update-tour", false, "write what the commands of docs/tour really print into its chapters")

// TestTour walks through each chapter of docs/tour: it runs every command of a block that begins with ```console, and
// compares what is printed with what the chapter says, but for times, addresses and IDs. A comment such as
// <!-- agent: kill --> does to the agent what the text around it tells the reader to do.
//
// A command that only looks is repeated until it shows what the chapter says: a reader looks again, too.
func TestTour(t *testing.T) {
	t.Parallel()
	chapters, err := filepath.Glob(filepath.Join(harness.Root(), "docs", "tour", "[0-9]*.md"))
	if err != nil || len(chapters) == 0 {
		t.Fatalf("no chapters: %v", err)
	}
	makeDemoImage(t, harness.Docker(t))
	for _, path := range chapters {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".md"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			now := newTourist(t).read(string(text))
			if *updateTour && now != string(text) {
				if err := os.WriteFile(path, []byte(now), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// tourist does what a chapter says, in a directory that looks like the repository's.
type tourist struct {
	t   *testing.T
	a   *harness.Agent
	dir string
	env []string
}

// makeDemoImage makes the image of cmd/demo on the tests' Docker, as make run does.
func makeDemoImage(t *testing.T, d *harness.Dockerd) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "run", "./cmd/demo-image")
	cmd.Dir, cmd.Env = harness.Root(), append(os.Environ(), "DOCKER_HOST="+d.Endpoint)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make the demo image: %v\n%s", err, out)
	}
}

func newTourist(t *testing.T) *tourist {
	t.Helper()
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip("the tour uses Docker's command line, which is not here")
	}
	a := harness.NewAgent(t, harness.AgentConfig{})
	r := &tourist{t: t, a: a}
	r.dir, r.env = asInTheRepository(t, a)
	a.Start()
	return r
}

var directive = regexp.MustCompile(`^<!-- agent: (kill|stop|start) -->$`)

// read does what a chapter says and returns it with what was printed.
func (r *tourist) read(text string) string {
	r.t.Helper()
	var now []string
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		now = append(now, lines[i])
		if d := directive.FindStringSubmatch(lines[i]); d != nil {
			switch d[1] {
			case "kill":
				r.a.Kill()
			case "stop":
				r.a.Interrupt()
			case "start":
				r.a.Start()
			}
		}
		if lines[i] != "```console" {
			continue
		}
		for i++; i < len(lines) && lines[i] != "```"; {
			command, ok := strings.CutPrefix(lines[i], "$ ")
			if !ok {
				r.t.Fatalf("line %d: %q is no command", i+1, lines[i])
			}
			at := i + 1
			var want []string
			for i++; i < len(lines) && lines[i] != "```" && !strings.HasPrefix(lines[i], "$ "); i++ {
				want = append(want, lines[i])
			}
			got := r.do(command, strings.Join(want, "\n"), at)
			now = append(now, "$ "+command)
			if got != "" {
				now = append(now, strings.Split(got, "\n")...)
			}
		}
		now = append(now, "```")
	}
	return strings.Join(now, "\n")
}

// looks are the commands that only look.
var looks = regexp.MustCompile(`^(bin/mini-kubelet (pods|ps|events|logs|why|trace|images)|docker (ps|inspect|logs)|curl)\b`)

// untilGone ends commands that look until nothing is there any more, which no update must take for what is there at the moment.
const untilGone = "# until nothing is left"

// do runs a command until it prints what is wanted, if it only looks; else once. It returns what was printed.
func (r *tourist) do(command, want string, line int) string {
	r.t.Helper()
	once := func() (string, error) {
		ctx, cancel := context.WithTimeout(r.t.Context(), harness.Patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "-c", command)
		cmd.Dir, cmd.Env = r.dir, r.env
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) && ctx.Err() == nil {
			err = nil // what it prints counts
		}
		return r.shown(string(out)), err
	}
	switch {
	case !looks.MatchString(command):
		got, err := once()
		if err != nil {
			r.t.Fatalf("line %d: %s: %v", line, command, err)
		}
		if !*updateTour && alike(got) != alike(want) {
			r.t.Fatalf("line %d: %s printed\n%s\nand the chapter says\n%s\n%s", line, command, got, want, r.a.Explain())
		}
		return got
	case *updateTour && !strings.HasSuffix(command, untilGone):
		return r.settled(once)
	}
	var got string
	harness.Eventually(r.t, fmt.Sprintf("line %d: %s prints what the chapter says", line, command), harness.Patience, func() error {
		var err error
		if got, err = once(); err == nil && alike(got) != alike(want) {
			err = fmt.Errorf("printed\n%s\nand the chapter says\n%s", got, want)
		}
		return err
	}, r.a.Explain)
	return got
}

// settled returns what a command prints once that is the same for a while, for -update-tour.
func (r *tourist) settled(once func() (string, error)) string {
	r.t.Helper()
	last, same := "", 0
	for range 60 {
		now, err := once()
		if err != nil {
			r.t.Fatal(err)
		}
		if same++; alike(now) != alike(last) {
			same = 0
		}
		if last = now; same == 4 {
			break
		}
		time.Sleep(time.Second) // only when the chapters are written anew
	}
	return last
}

// shown is what was printed, as on a node whose name is not the test's.
func (r *tourist) shown(out string) string {
	out = strings.ReplaceAll(out, r.a.Manifests, "manifests")
	out = strings.ReplaceAll(out, r.dir+"/", "")
	// A name as long as the node's keeps columns in line.
	out = strings.ReplaceAll(out, r.a.Node, fmt.Sprintf("node-%0*d", max(1, len(r.a.Node)-len("node-")), 1))
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

var (
	ids       = regexp.MustCompile(`\b(sha256:)?[0-9a-f]{12,64}\b|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}\b|\b[0-9a-f]{4,12}…`)
	times     = regexp.MustCompile(`\b(\d{4}-\d{2}-\d{2}T)?\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:?\d{2})?\b`)
	addresses = regexp.MustCompile(`\b\d{1,3}(\.\d{1,3}){3}\b`)
	durations = regexp.MustCompile(`\b(\d+h)?(\d+m)?\d+(\.\d+)?\s?(ms|µs|s|m|h)\b|\b(About|Less than) an? (second|minute|hour)\b|\b\d+ (second|minute|hour)s?\b`)
	ages      = regexp.MustCompile(`(\ba second|<T>) ago\b|\(x\d+ over <T>\)`)
	decimals  = regexp.MustCompile(`\b\d+\.\d+\b|\b\d+ ?%`)
	nodes     = regexp.MustCompile(`\bnode-0*1\b`)
	spaces    = regexp.MustCompile(`[ \t]+`)
)

// alike is a text without what is different each time: IDs, times, durations, addresses, and the width of columns.
func alike(s string) string {
	s = ids.ReplaceAllString(s, "<ID>")
	s = times.ReplaceAllString(s, "<TIME>")
	s = addresses.ReplaceAllString(s, "<IP>")
	s = durations.ReplaceAllString(s, "<T>")
	s = ages.ReplaceAllString(s, "<AGO>")
	s = decimals.ReplaceAllString(s, "<N>")
	s = nodes.ReplaceAllString(s, "<NODE>")
	return spaces.ReplaceAllString(s, " ")
}

func TestWhatIsAlike(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		same bool
	}{
		{"web   1/1  Running  3s", "web 1/1 Running 12m", true},
		{"web 1/1 Running", "web 0/1 Running", false},
		{"next start in 2m40s at 10:14:03", "next start in 9.5s at 11:00:00", true},
		{"exit 137", "exit 1", false},
		{"0123456789ab", "ffffffffffff", true},
		{"10.0.0.2", "172.17.0.3", true},
		{"CrashLoopBackOff", "Error", false},
	} {
		if (alike(tc.a) == alike(tc.b)) != tc.same {
			t.Errorf("%q and %q: %q and %q", tc.a, tc.b, alike(tc.a), alike(tc.b))
		}
	}
}
