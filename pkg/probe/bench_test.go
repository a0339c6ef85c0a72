package probe

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/runtime"
)

// asServer has this program serve HTTP for a benchmark, in a process of its own, so
// that what the benchmark measures is the probes' CPU only.
const asServer = "PROBE_BENCH_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		serveForBenchmark()
		return
	}
	os.Exit(m.Run())
}

// serveForBenchmark answers every connection with an HTTP response until its
// standard input ends.
func serveForBenchmark() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					if line == "\r\n" {
						break
					}
				}
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok") //nolint:errcheck // the client may have gone
			}()
		}
	}()
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // ends with the benchmark
}

// benchmarkServer starts the server and returns its port.
func benchmarkServer(b *testing.B) (port int) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asServer+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		cmd.Wait() //nolint:errcheck // it was only there to serve
	})
	if _, err := fmt.Fscan(stdout, &port); err != nil {
		b.Fatal(err)
	}
	return port
}

// cpu is the CPU time that this process has used.
func cpu(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkProber measures one probe of each kind: time and the CPU of this side.
func BenchmarkProber(b *testing.B) {
	port := benchmarkServer(b)
	for name, h := range map[string]v1.ProbeHandler{
		"http": {HTTPGet: &v1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt(port)}},
		"tcp":  {TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt(port)}},
		"exec": {Exec: &v1.ExecAction{Command: []string{"true"}}}, // without the runtime
	} {
		b.Run(name, func(b *testing.B) {
			p := newProber(&commands{})
			before := cpu(b)
			for b.Loop() {
				a, err := p.run(b.Context(), &v1.Probe{ProbeHandler: h, TimeoutSeconds: 5}, subject{id: "1", container: &v1.Container{}, host: "127.0.0.1"})
				if err != nil || a.result != success {
					b.Fatalf("%+v, %v", a, err)
				}
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// counter is an Exec that counts, and tells when it has counted enough.
type counter struct {
	mu   sync.Mutex
	left int
	done chan struct{}
}

func (c *counter) ExecSync(context.Context, *cri.ExecSyncRequest, ...grpc.CallOption) (*cri.ExecSyncResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left == 0 {
		close(c.done)
	}
	return &cri.ExecSyncResponse{}, nil
}

// BenchmarkFiveHundredASecond runs 500 probes with a period of a second for as many
// runs as an operation has, in real time, and reports the share of a core they take.
// Run it with -benchtime=5000x.
func BenchmarkFiveHundredASecond(b *testing.B) {
	port := benchmarkServer(b)
	for name, h := range map[string]v1.ProbeHandler{
		"http": {HTTPGet: &v1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt(port)}},
		"exec": {Exec: &v1.ExecAction{Command: []string{"true"}}}, // without the runtime
	} {
		b.Run(name, func(b *testing.B) {
			e := &counter{left: b.N, done: make(chan struct{})}
			m, err := New(Config{Exec: e, HostIPs: func() []string { return nil }, Changed: make(chan types.UID, 1000)})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan error)
			for i := range 500 {
				uid := types.UID(fmt.Sprint(i))
				probe := &v1.Probe{ProbeHandler: h, PeriodSeconds: 1, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3}
				pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", ReadinessProbe: probe}}}}
				m.Sync(pod, &runtime.PodStatus{IPs: []string{"127.0.0.1"}, Containers: []*runtime.ContainerStatus{
					{ID: runtime.ContainerID{Runtime: "test", ID: string(uid)}, Name: "c", State: runtime.StateRunning, StartedAt: time.Now().Add(-time.Hour)},
				}}, nothing)
			}
			b.ResetTimer()
			before, begun := cpu(b), time.Now()
			go func() { ended <- m.Run(ctx) }()
			if strings.HasSuffix(name, "exec") {
				<-e.done
			} else {
				time.Sleep(time.Duration(b.N) * time.Second / 500)
			}
			used, took := cpu(b)-before, time.Since(begun)
			b.StopTimer()
			cancel()
			<-ended
			b.ReportMetric(100*used.Seconds()/took.Seconds(), "%core")
		})
	}
}
