package probe

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	agentcri "github.com/mini-kubelet/mini-kubelet/pkg/runtime/criclient"
)

// asServer makes this program serve HTTP, gRPC health and, on the Unix socket that
// it names, a runtime's ExecSync for a benchmark, in a separate process, so that the
// benchmark measures only the probes' CPU.
const asServer = "PROBE_BENCH_SERVER"

func TestMain(m *testing.M) {
	if socket := os.Getenv(asServer); socket != "" {
		if err := serveForBenchmark(socket); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// executor is a runtime in which every command succeeds at once.
type executor struct {
	cri.UnimplementedRuntimeServiceServer
}

func (executor) ExecSync(context.Context, *cri.ExecSyncRequest) (*cri.ExecSyncResponse, error) {
	return &cri.ExecSyncResponse{}, nil
}

// serveForBenchmark writes the ports of HTTP and gRPC, and answers until its standard
// input ends.
func serveForBenchmark(socket string) error {
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	rpc, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	unix, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	healthy, runs := grpc.NewServer(), grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(healthy, health.NewServer())
	cri.RegisterRuntimeServiceServer(runs, executor{})
	go healthy.Serve(rpc) //nolint:errcheck // ends with the process
	go runs.Serve(unix)   //nolint:errcheck // ends with the process
	go serveHTTP(web)
	fmt.Println(web.Addr().(*net.TCPAddr).Port, rpc.Addr().(*net.TCPAddr).Port)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// serveHTTP answers every connection with one response.
func serveHTTP(l net.Listener) {
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
}

// benchmarkServer starts the server, and returns a probe of each kind that it answers
// and who runs commands.
func benchmarkServer(b *testing.B) (map[string]v1.ProbeHandler, Exec) {
	dir, err := os.MkdirTemp("", "probe")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "cri.sock")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asServer+"="+socket)
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
	var web, rpc int
	if _, err := fmt.Fscan(stdout, &web, &rpc); err != nil {
		b.Fatal(err)
	}
	runs, err := agentcri.New(agentcri.Config{Endpoint: "unix://" + socket})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { runs.Close() })
	return map[string]v1.ProbeHandler{
		"http": {HTTPGet: &v1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt(web)}},
		"tcp":  {TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt(web)}},
		"grpc": {GRPC: &v1.GRPCAction{Port: int32(rpc)}},
		"exec": {Exec: &v1.ExecAction{Command: []string{"true"}}}, // up to the runtime's socket
	}, runs
}

// cpu returns the CPU time that this process has used.
func cpu(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkProber measures one probe of each kind: time and the CPU of this side.
func BenchmarkProber(b *testing.B) {
	handlers, runs := benchmarkServer(b)
	for _, name := range slices.Sorted(maps.Keys(handlers)) {
		b.Run(name, func(b *testing.B) {
			p := newProber(runs)
			before := cpu(b)
			for b.Loop() {
				a, err := p.run(b.Context(), &v1.Probe{ProbeHandler: handlers[name], TimeoutSeconds: 5}, subject{id: "1", container: &v1.Container{}, host: "127.0.0.1"})
				if err != nil || a.result != success {
					b.Fatalf("%+v, %v", a, err)
				}
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// BenchmarkFiveHundredASecond runs 500 probes with a period of a second for as many
// runs as an operation has, in real time, and reports the share of a core they take.
// Run it with -benchtime=5000x.
func BenchmarkFiveHundredASecond(b *testing.B) {
	handlers, runs := benchmarkServer(b)
	for _, name := range slices.Sorted(maps.Keys(handlers)) {
		b.Run(name, func(b *testing.B) {
			metrics := prometheus.NewRegistry()
			m, err := New(Config{Exec: runs, HostIPs: func() []string { return nil }, Changed: make(chan Changed, 1000), Metrics: metrics})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan error)
			for i := range 500 {
				uid := types.UID(fmt.Sprint(i))
				probe := &v1.Probe{ProbeHandler: handlers[name], PeriodSeconds: 1, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3}
				pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", ReadinessProbe: probe}}}}
				m.Sync(pod, &actual.PodStatus{IPs: []string{"127.0.0.1"}, Containers: []*actual.ContainerStatus{
					{ID: actual.ContainerID{Runtime: "test", ID: string(uid)}, Name: "c", State: actual.StateRunning, StartedAt: time.Now().Add(-time.Hour)},
				}}, nothing)
			}
			b.ResetTimer()
			before, begun := cpu(b), time.Now()
			go func() { ended <- m.Run(ctx) }()
			time.Sleep(time.Duration(b.N) * time.Second / 500)
			used, took := cpu(b)-before, time.Since(begun)
			b.StopTimer()
			cancel()
			<-ended
			b.ReportMetric(100*used.Seconds()/took.Seconds(), "%core")
			families, err := metrics.Gather()
			if err != nil {
				b.Fatal(err)
			}
			ran := 0.0
			for _, f := range families {
				for _, c := range f.Metric {
					ran += c.GetCounter().GetValue()
				}
			}
			b.ReportMetric(ran/took.Seconds(), "probes/s")
		})
	}
}
