package utilchains

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
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
		if out, err := exec.Command("iptables", "-t", "mangle", "-S").CombinedOutput(); err != nil {
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
	out, err := exec.Command(program, "-t", table, "-S").CombinedOutput()
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
				if out, err := exec.Command("iptables", "-t", table, flush).CombinedOutput(); err != nil {
					t.Errorf("%s", out)
				}
			}
		}
		check("after a flush")
	})
}
