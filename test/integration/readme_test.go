package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// elsewhere are the commands of README that TestReadme only looks up, with who runs them. Those of make are asked for what they
// would run; a test that is named must exist.
var elsewhere = map[string]string{
	"make build":      "`make test`, which this test is a part of, begins with it",
	"make test":       "this test is a part of it",
	"make run":        "TestQuickStart does it, on the machine's Docker",
	"make cluster-up": "needs an empty /etc/kubernetes: TestSuitesLeaveTheMachineAsItWas runs it",
	"make join":       "needs an empty /var/lib/kubelet: TestKubeadmJoin and TestSuitesLeaveTheMachineAsItWas run it",
	"export KUBECONFIG=$PWD/bin/cluster/admin.conf": "belongs to the cluster: TestKubeadmJoin",
	"kubectl get nodes -o wide":                     "belongs to the cluster: TestKubeadmJoin",
	"make cluster-down":                             "belongs to the cluster: TestSuitesLeaveTheMachineAsItWas runs it",
}

// shows is what commands of README must print. One that goes on until it is interrupted is, once it has printed that.
var shows = map[string]struct {
	pattern string
	goesOn  bool
	input   string
}{
	"bin/mini-kubelet pods":                     {pattern: `(?m)\bweb-\S+ +1/1 +Running`},
	"bin/mini-kubelet ps":                       {pattern: `(?mi)\brunning\b.*\bweb\b`},
	"bin/mini-kubelet images":                   {pattern: `(?m)busybox`},
	"curl http://127.0.0.1:10255/pods":          {pattern: `"kind":"PodList"`},
	"curl http://127.0.0.1:10248/healthz":       {pattern: `ok$`},
	"bin/mini-kubelet logs -f web":              {pattern: `green green`, goesOn: true},
	"bin/mini-kubelet exec -it web -- sh":       {pattern: `it is green`, input: "echo it is $COLOUR; exit\n"},
	"bin/mini-kubelet port-forward web 8080:80": {pattern: `Forwarding from 127\.0\.0\.1:`, goesOn: true},
	"bin/mini-kubelet top":                      {pattern: `(?m)web`},
	"bin/mini-kubelet events web":               {pattern: `Started`},
	"bin/mini-kubelet trace web":                {pattern: `StartContainer`},
	"bin/mini-kubelet replay x.mkb":             {pattern: `^[1-9]\d* decisions, 0 come out differently\n$`},
	"bin/mini-kubelet why":                      {pattern: `as wanted`},
	"bin/mini-kubelet ui":                       {pattern: `http://127\.0\.0\.1:\d+/`, goesOn: true},
	"bin/mini-kubelet ui x.mkb":                 {pattern: `The page of x\.mkb.*`, goesOn: true},
	"bin/mini-kubelet dockershim --listen unix:///var/run/dockershim.sock": {goesOn: true},
}

// block is a fenced block of a page.
type block struct {
	line     int
	language string
	text     []string
}

func blocks(text string) (all []block) {
	var now *block
	for i, line := range strings.Split(text, "\n") {
		language, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && now == nil:
			now = &block{line: i + 1, language: language}
		case fence:
			all, now = append(all, *now), nil
		case now != nil:
			now.text = append(now.text, line)
		}
	}
	return all
}

var (
	comment = regexp.MustCompile(`\s+# .*$`)
	command = regexp.MustCompile(`^(\$ |sudo |make\b|bin/|mini-kubelet |curl |docker |kubectl |kubeadm |export )`)
	named   = regexp.MustCompile(`\bTest[A-Z]\w*`)
)

// TestReadme runs the commands of README in its order, as a reader would: those that start the agent, the manifest that is shown,
// and what looks at it. Each block of commands begins with ```sh; a command that this test can only look up stands in elsewhere.
func TestReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(harness.Root(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{t: t}
	ran := 0
	for _, b := range blocks(string(text)) {
		switch b.language {
		case "sh", "bash", "console":
			for i, line := range b.text {
				if line = comment.ReplaceAllString(line, ""); line != "" {
					ran++
					r.do(b.line+1+i, line)
				}
			}
		case "yaml":
			r.manifest(b)
		default:
			for i, line := range b.text {
				if command.MatchString(line) {
					t.Errorf("README.md:%d: %q looks like a command, and its block does not begin with ```sh", b.line+1+i, line)
				}
			}
		}
	}
	if ran < 20 {
		t.Errorf("README has only %d commands: this test does not find them", ran)
	}
}

// reader follows README in a directory of his own.
type reader struct {
	t   *testing.T
	a   *harness.Agent
	dir string
	env []string
}

// start starts the agent as README says, with the test's directory of manifests.
func (r *reader) start(line string) {
	r.t.Helper()
	var args []string
	for _, arg := range strings.Fields(line)[2:] {
		if arg != "/etc/kubernetes/manifests" {
			args = append(args, arg)
			continue
		}
		args = append(args, r.t.TempDir())
	}
	r.a = harness.NewAgent(r.t, harness.AgentConfig{Args: args})
	if len(args) > 1 {
		r.a.Manifests = args[1]
	}
	r.dir, r.env = asInTheRepository(r.t, r.a)
	r.a.Start()
}

// manifest puts what README shows into the directory, with an image that is here.
func (r *reader) manifest(b block) {
	r.t.Helper()
	text := strings.Join(b.text, "\n")
	const image = "    image: nginx\n"
	if r.a == nil || strings.Count(text, image) != 1 {
		r.t.Fatalf("README.md:%d: no agent runs, or the manifest has not one %q", b.line, image)
	}
	script := "echo $COLOUR `cat /settings/COLOUR`; trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"
	r.a.WriteText("readme.yaml", strings.Replace(text, image, fmt.Sprintf("    image: %s\n    command: [sh, -c, %q]\n", harness.Busybox, script), 1))
	r.a.WaitRunning("web")
}

// do runs one command, or says who does.
func (r *reader) do(line int, text string) {
	if r.a == nil && strings.HasPrefix(text, "sudo bin/mini-kubelet --") {
		r.start(text)
		return
	}
	r.t.Run(strings.Join(strings.Fields(text), " "), func(t *testing.T) {
		where := fmt.Sprintf("README.md:%d", line)
		if reason, is := elsewhere[text]; is {
			if target, is := strings.CutPrefix(text, "make "); is {
				dry := exec.CommandContext(t.Context(), "make", "-n", target)
				dry.Dir = harness.Root()
				if out, err := dry.CombinedOutput(); err != nil {
					t.Errorf("%s: make -n %s: %v\n%s", where, target, err, out)
				}
			}
			for _, test := range named.FindAllString(reason, -1) {
				if !existsTest(t, test) {
					t.Errorf("%s is said to be run by %s, which does not exist", text, test)
				}
			}
			t.Skip(reason)
		}
		if r.a == nil {
			t.Fatalf("%s: %s: no agent runs yet; can it be run after one was started?", where, text)
		}
		r.run(t, where, text)
	})
}

// run runs a command and compares what it prints.
func (r *reader) run(t *testing.T, where, text string) {
	want := shows[text]
	own := strings.NewReplacer("127.0.0.1:10255", r.a.ReadOnly(), "127.0.0.1:10248", r.a.Healthz(), " 8080:80", " :80",
		"/var/run/dockershim.sock", filepath.Join(r.dir, "dockershim.sock")).Replace(text)
	if strings.Contains(text, " -it ") {
		own = fmt.Sprintf("script -qec '%s' /dev/null", own) // which gives it a terminal
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*harness.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", "exec "+own)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = r.dir, r.env, &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out output
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(want.input), &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	pattern := regexp.MustCompile(want.pattern)
	if !want.goesOn {
		if err := <-ended; err != nil || !pattern.MatchString(out.String()) {
			t.Errorf("%s: %s: %v, and it printed, without %q:\n%s\n%s", where, own, err, want.pattern, out.String(), r.a.Explain())
		}
		return
	}
	harness.Eventually(t, where+": "+own+" prints "+want.pattern, harness.Patience, func() error {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s: %s ended: %v\n%s", where, own, err, out.String())
		default:
		}
		if want.pattern == "" { // it serves
			_, stderr, err := r.a.Run("ps", "--runtime-endpoint", "unix://"+filepath.Join(r.dir, "dockershim.sock"))
			if err != nil {
				return fmt.Errorf("nobody answers there: %w: %s", err, stderr)
			}
			return nil
		}
		if !pattern.MatchString(out.String()) {
			return errors.New("it printed " + out.String())
		}
		return nil
	}, r.a.Explain)
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
	select {
	case <-ended:
	case <-time.After(harness.Patience):
		t.Errorf("%s: %s does not end when it is interrupted", where, own)
	}
}

// output is written by a command and read meanwhile.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// existsTest reports whether a suite has a test of that name.
func existsTest(t *testing.T, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(harness.Root(), "test", "*", "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests: %v", err)
	}
	for _, file := range files {
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(code, []byte("\nfunc "+name+"(t *testing.T)")) {
			return true
		}
	}
	return false
}

// asInTheRepository makes a directory that looks like the repository, in which bin/mini-kubelet means an agent.
func asInTheRepository(t *testing.T, a *harness.Agent) (dir string, env []string) {
	t.Helper()
	dir = t.TempDir()
	binary, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	// What tells commands which agent is meant is the same for all of them here.
	wrapper := fmt.Sprintf(`#!/bin/sh
cmd=$1; shift
case $cmd in
ps|images) exec %[1]s $cmd --runtime-endpoint unix://%[2]s "$@" ;;
replay) exec %[1]s $cmd "$@" ;;
dockershim) exec %[1]s $cmd --docker-endpoint %[3]s --dockershim-root-directory %[4]s/shim --network-plugin docker "$@" ;;
*) exec %[1]s $cmd --root-dir %[5]s "$@" ;;
esac
`, binary, a.CRISocket(), a.Docker.Endpoint, dir, filepath.Join(a.Dir, "root"))
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "bin"), 0o755),
		os.WriteFile(filepath.Join(dir, "bin", "mini-kubelet"), []byte(wrapper), 0o755),
		os.Symlink(a.Manifests, filepath.Join(dir, "manifests")),
		os.Symlink(filepath.Join(harness.Root(), "docs"), filepath.Join(dir, "docs")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir, append(os.Environ(), "DOCKER_HOST="+a.Docker.Endpoint, "DOCKER_CONFIG="+dir)
}

func TestBlocksOfAPage(t *testing.T) {
	all := blocks("text\n```sh\nmake  # x\n```\n```\n1\n2\n```\n")
	if len(all) != 2 || all[0].language != "sh" || all[0].line != 2 || all[0].text[0] != "make  # x" || all[1].language != "" || len(all[1].text) != 2 {
		t.Errorf("%+v", all)
	}
}
