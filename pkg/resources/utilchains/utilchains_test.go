package utilchains

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// inOwnNetwork runs the test on a thread that has a network namespace of its own, which goes with
// the thread: the machine's tables are not touched.
func inOwnNetwork(t *testing.T, test func()) {
	t.Helper()
	for _, program := range []string{"iptables", "ip6tables"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	done := make(chan string)
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- "no network namespace can be made here: " + err.Error()
			return
		}
		if out, err := exec.Command("iptables", "-w", "-t", "mangle", "-S").CombinedOutput(); err != nil {
			done <- "iptables does not work here: " + string(out)
			return
		}
		test()
	}()
	if skip, ok := <-done; ok {
		t.Skip(skip)
	}
}

func rules(t *testing.T, program, table string) string {
	t.Helper()
	out, err := exec.Command(program, "-w", "-t", table, "-S").CombinedOutput() // the lock is one for all network namespaces
	if err != nil {
		t.Errorf("%s -t %s -S: %v: %s", program, table, err, out)
	}
	return string(out)
}

func TestChainsAreMadeOnceAndPutBack(t *testing.T) {
	inOwnNetwork(t, func() {
		check := func(when string) {
			t.Helper()
			for range 2 {
				if err := ensure(t.Context()); err != nil {
					t.Errorf("%s: %v", when, err)
				}
			}
			for _, program := range []string{"iptables", "ip6tables"} {
				if got := rules(t, program, "mangle"); strings.Count(got, "-N KUBE-IPTABLES-HINT\n") != 1 {
					t.Errorf("%s: %s has %s", when, program, got)
				}
			}
			got := rules(t, "iptables", "filter")
			for _, want := range []string{
				"-N KUBE-FIREWALL\n", "-A INPUT -j KUBE-FIREWALL\n", "-A OUTPUT -j KUBE-FIREWALL\n",
				`-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP` + "\n",
			} {
				if strings.Count(got, want) != 1 {
					t.Errorf("%s: want %q once in %s", when, want, got)
				}
			}
			if got := rules(t, "ip6tables", "filter"); strings.Contains(got, "KUBE") {
				t.Errorf("%s: IPv6 has %s", when, got)
			}
		}
		check("fresh")
		for _, flush := range []string{"-F", "-X"} {
			for _, table := range []string{"filter", "mangle"} {
				if out, err := exec.Command("iptables", "-w", "-t", table, flush).CombinedOutput(); err != nil {
					t.Errorf("%s", out)
				}
			}
		}
		check("after a flush")
	})
}

func TestAnIptablesThatHangsKeepsNobodyFromStopping(t *testing.T) {
	dir := t.TempDir()
	began, hang, over := filepath.Join(dir, "began"), filepath.Join(dir, "hang"), filepath.Join(dir, "over")
	if err := unix.Mkfifo(hang, 0o600); err != nil {
		t.Fatal(err)
	}
	// It hangs until somebody writes to the pipe, which the end of the test does.
	script := fmt.Sprintf("#!/bin/sh\n: >%q\nread x <%q\n: >%q\n", began, hang, over)
	if err := os.WriteFile(filepath.Join(dir, "iptables"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/bin:/usr/bin")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx) }()
	testrun.Eventually(t, "iptables is called", func() bool { _, err := os.Stat(began); return err == nil })
	t.Cleanup(func() {
		f, err := os.OpenFile(hang, os.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		_, _ = f.WriteString("\n")
		testrun.Eventually(t, "it has ended", func() bool { _, err := os.Stat(over); return err == nil })
	})
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(testrun.Patience):
		t.Fatal("it is still waited for")
	}
}
