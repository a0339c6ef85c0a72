package harness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// pluginSocket is the name of the socket beside the programs that stand in for plug-ins.
const pluginSocket = "faults.sock"

// How the answer of a plug-in that has ended is told, beside its output.
const (
	exitHeader   = "Plugin-Exit"
	stderrHeader = "Plugin-Stderr"
)

// StartPlugins makes a directory of plug-ins, Endpoint, until the test ends. Each of the
// programs of realDir is there, but what is run is this test's own binary (Main knows it
// by its name), which has the proxy run the real one: by a call whose method is the
// CNI_COMMAND, or RUN, and whose path is the program's name.
func StartPlugins(t T, realDir string, programs ...string) *Proxy {
	t.Helper()
	dir, _, err := newDir("b")
	if err != nil {
		t.Fatalf("%v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, name := range programs {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatalf("%v", err)
		}
	}
	p := &Proxy{Endpoint: dir, forward: realPlugins(realDir)}
	p.serveOn(t, &http.Server{}, filepath.Join(dir, pluginSocket))
	return p
}

// pluginCall is what a program is called with.
type pluginCall struct {
	Args, Env []string
	Stdin     []byte
}

// realPlugins runs the program that is asked for as it was called. It ends with the program,
// even when the caller does not wait for it.
func realPlugins(dir string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var call pluginCall
		if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
			cut(r)
		}
		cmd := exec.Command(filepath.Join(dir, filepath.Base(r.URL.Path)), call.Args...)
		for _, e := range call.Env {
			if strings.HasPrefix(e, "CNI_PATH=") { // whom it calls in turn is not between us
				e = "CNI_PATH=" + dir
			}
			cmd.Env = append(cmd.Env, e)
		}
		var out, complaint bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(call.Stdin), &out, &complaint
		if err := cmd.Run(); err != nil {
			code := 127
			if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
				code = exit.ExitCode()
			} else {
				fmt.Fprintln(&complaint, err)
			}
			w.Header().Set(exitHeader, strconv.Itoa(code))
		}
		w.Header().Set(stderrHeader, url.QueryEscape(complaint.String()))
		_, _ = w.Write(out.Bytes())
	}
}

// asPlugin does what a plug-in is to do if this process was started as one, and returns
// its exit code.
func asPlugin() (code int, is bool) {
	dir, name := filepath.Split(os.Args[0])
	sock := filepath.Join(dir, pluginSocket)
	if fi, err := os.Stat(sock); err != nil || fi.Mode().Type() != os.ModeSocket {
		return 0, false
	}
	method := os.Getenv("CNI_COMMAND")
	if method == "" {
		method = "RUN"
	}
	call := pluginCall{Args: os.Args[1:], Env: os.Environ()}
	call.Stdin, _ = io.ReadAll(os.Stdin)
	body, err := json.Marshal(call)
	if err != nil {
		return 127, true
	}
	about := os.Getenv("CNI_ARGS")
	if method == "RUN" {
		about = string(call.Stdin)
	}
	req, err := http.NewRequest(method, "http://plugins/"+name+"?"+url.QueryEscape(about), bytes.NewReader(body))
	if err != nil {
		return 127, true
	}
	resp, err := (&http.Client{Transport: &http.Transport{DialContext: toSocket(sock)}}).Do(req)
	if err != nil { // cut: it dies in the middle
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	defer resp.Body.Close()
	complaint, _ := url.QueryUnescape(resp.Header.Get(stderrHeader))
	_, _ = io.WriteString(os.Stderr, complaint)
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
		return 1, true
	}
	if resp.StatusCode >= 400 {
		return 1, true
	}
	code, _ = strconv.Atoi(resp.Header.Get(exitHeader))
	return code, true
}

// NewCNIAgent prepares an agent whose pods are on a bridge that real CNI plug-ins make,
// called through the proxy.
func NewCNIAgent(t T, cfg AgentConfig) (*Agent, *Proxy) {
	t.Helper()
	p := StartPlugins(t, CNIBinDir(t), "bridge", "host-local", "loopback")
	a := NewAgent(t, cfg)
	a.WriteCNI()
	a.cfg.Args = append(a.cfg.Args, "--network-plugin", "cni", "--cni-bin-dir", p.Endpoint)
	return a, p
}

// WriteCNI makes a bridge and a CNI configuration for it where the agent looks for one, and returns the
// configuration's file.
func (a *Agent) WriteCNI() string {
	a.t.Helper()
	if err := writeCNI(a.Dir, a.bridge()); err != nil {
		a.t.Fatalf("%v", err)
	}
	return filepath.Join(a.Dir, "cni", "10.conflist")
}

// bridge is the name of the agent's own bridge.
func (a *Agent) bridge() string { return "mkt" + strings.TrimPrefix(a.Node, "n") }

// UseKubenet puts the pods of an agent that has not been started yet on kubenet, on a bridge of its own
// that goes with the agent, and its rules with it.
func (a *Agent) UseKubenet() {
	a.t.Helper()
	bin := CNIBinDir(a.t)
	if _, err := exec.LookPath("iptables"); err != nil {
		a.t.Skipf("kubenet needs iptables: %v", err)
	}
	if err := os.WriteFile(filepath.Join(a.Dir, "bridge"), []byte(a.bridge()+"\n"), 0o644); err != nil {
		a.t.Fatalf("%v", err)
	}
	a.cfg.Args = append(a.cfg.Args, "--network-plugin", "kubenet", "--kubenet-bridge", a.bridge(), "--cni-bin-dir", bin,
		"--non-masquerade-cidr", "0.0.0.0/0") // for which it needs no rule that says nothing of the bridge
}

// NewKubenetAgent prepares a standalone agent with kubenet, whose podCIDR is used by nothing else on the machine.
func NewKubenetAgent(t T, cfg AgentConfig) (*Agent, netip.Prefix) {
	t.Helper()
	a := NewAgent(t, cfg)
	a.UseKubenet()
	if err := addBridge(a.Dir, a.bridge()); err != nil {
		t.Fatalf("%v", err)
	}
	subnet, err := subnetOf(a.bridge())
	if err != nil {
		t.Fatalf("%v", err)
	}
	a.SetConfig("podCIDR", subnet.String())
	return a, subnet
}

// Addresses lists the addresses that the host-local plug-in has given out to the agent's
// pods.
func (a *Agent) Addresses() ([]string, error) { return givenOut(a.Dir) }

// Attachments lists the sandboxes that are on record as attached to a CNI network, by
// the IDs in the files' names.
func (a *Agent) Attachments() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(a.Dir, "shim", "network", "*.json"))
	for i := range files {
		files[i] = strings.TrimSuffix(filepath.Base(files[i]), ".json")
	}
	return files, err
}
