package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/mini-kubelet/mini-kubelet/test/controlplane"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// clusterResults are of the agent as a node of a real control plane.
type clusterResults struct {
	Pods                int
	OneFloor, OneNode   time.Duration
	ManyFloor, ManyNode time.Duration
	WritesPerPod        float64
	ReadsPerPod         float64
	Writes              map[string]float64 // a pod, by what
	IdleRequests        map[string]int     // in IdleFor, by what
	IdleFor             time.Duration
	Millicores, RSSMiB  float64
}

// Aims as a node.
const (
	aimClusterOne    = 1.25     // times the floor
	aimClusterMany   = 1 / 0.85 // times the floor's time, which is 85 % of its rate
	aimWritesPerPod  = 6.0
	clusterNamespace = "default"
)

// auditPolicy has the API server write a line for each request of a node.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: Metadata
  userGroups: ["system:nodes"]
- level: None
`

// clusterMeter measures one node of one control plane.
type clusterMeter struct {
	b     *bench
	n     *harness.Node
	audit string
	count int
}

// measureCluster takes the measurements of the agent as a node.
func measureCluster(b *bench, d *harness.Dockerd, opt options) *clusterResults {
	dir, err := os.MkdirTemp("", "bench-audit-")
	if err != nil {
		b.Fatalf("%v", err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	policy, audit := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "audit.log")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		b.Fatalf("%v", err)
	}
	b.Logf("starting a control plane ...")
	c := harness.StartCluster(b, controlplane.Config{APIServerArgs: []string{"--audit-policy-file=" + policy, "--audit-log-path=" + audit, "--audit-log-mode=blocking"}})
	n := harness.StartNode(b, c, harness.AgentConfig{Docker: d, Args: []string{"--v", "0"}})
	m := &clusterMeter{b: b, n: n, audit: audit}
	r := &clusterResults{Pods: opt.pods}
	m.start(1) // warms everything up
	pause := m.pauseImage()
	m.clear()

	b.Logf("one pod, bind to Running at a watcher, %d times, by turns with bare Docker ...", opt.single)
	var floors, nodes []time.Duration
	for range opt.single {
		floors = append(floors, floor(b, d, pause, 1, 1))
		nodes = append(nodes, m.start(1))
		m.clear()
	}
	r.OneFloor, r.OneNode = median(floors), median(nodes)
	b.Logf("%d pods, %d times, by turns with bare Docker ...", opt.pods, opt.batches)
	floors, nodes = nil, nil
	r.Writes = map[string]float64{}
	for i := range opt.batches {
		floors = append(floors, floor(b, d, pause, opt.pods, 4))
		before := m.requests()
		nodes = append(nodes, m.start(opt.pods))
		if i < opt.batches-1 {
			m.clear()
			continue
		}
		time.Sleep(3 * time.Second) // events are written in the background
		for what, n := range difference(m.requests(), before) {
			if strings.HasPrefix(what, "get ") || strings.HasPrefix(what, "list ") || strings.HasPrefix(what, "watch ") {
				r.ReadsPerPod += float64(n) / float64(opt.pods)
				continue
			}
			if strings.Contains(what, "leases") || strings.Contains(what, "nodes") {
				continue // a heartbeat, not of the pods
			}
			r.Writes[what] = float64(n) / float64(opt.pods)
			r.WritesPerPod += float64(n) / float64(opt.pods)
		}
	}
	r.ManyFloor, r.ManyNode = median(floors), median(nodes)
	b.Logf("idle with %d pods for %v ...", opt.pods, opt.idle)
	time.Sleep(15 * time.Second) // the node's status follows what has happened
	before := m.requests()
	used, err := harness.Millicores(n.PID(), opt.idle)
	if err != nil {
		b.Fatalf("%v", err)
	}
	rss, err := harness.RSS(n.PID())
	if err != nil {
		b.Fatalf("%v", err)
	}
	r.IdleRequests, r.IdleFor = difference(m.requests(), before), opt.idle
	r.Millicores, r.RSSMiB = used, float64(rss)/1024
	m.clear()
	return r
}

// pauseImage is the image of the agent's sandboxes.
func (m *clusterMeter) pauseImage() string {
	all, err := m.n.Containers()
	if err != nil {
		m.b.Fatalf("%v", err)
	}
	for _, c := range all {
		if strings.Contains(c.Names[0], "k8s_POD_") {
			return c.ImageID
		}
	}
	m.b.Fatalf("no sandbox among %d containers", len(all))
	return ""
}

// start binds pods that wait for a node to this one, and returns how long it took
// from the first binding until a watcher has seen the last one Running and Ready.
func (m *clusterMeter) start(n int) time.Duration {
	core := m.n.Cluster.Client.CoreV1().Pods(clusterNamespace)
	var names []string
	for range n {
		m.count++
		p := harness.Pod(fmt.Sprintf("p%04d", m.count), "", func(p *v1.Pod) {
			none, no := int64(0), false
			p.Spec.TerminationGracePeriodSeconds, p.Spec.AutomountServiceAccountToken = &none, &no
			p.Spec.Containers[0].Command = sleeper
			p.Spec.SchedulerName = "by-hand"
		})
		if _, err := core.Create(m.b.ctx, p, metav1.CreateOptions{}); err != nil {
			m.b.Fatalf("create pod: %v", err)
		}
		names = append(names, p.Name)
	}
	list, err := core.List(m.b.ctx, metav1.ListOptions{})
	if err != nil {
		m.b.Fatalf("list: %v", err)
	}
	w, err := watchtools.NewRetryWatcherWithContext(m.b.ctx, list.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return core.Watch(ctx, o) },
	})
	if err != nil {
		m.b.Fatalf("watch: %v", err)
	}
	defer w.Stop()
	began := time.Now()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for _, name := range names {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			b := &v1.Binding{ObjectMeta: metav1.ObjectMeta{Name: name}, Target: v1.ObjectReference{Kind: "Node", Name: m.n.Node()}}
			if err := core.Bind(m.b.ctx, b, metav1.CreateOptions{}); err != nil {
				m.b.Errorf("bind: %v", err)
			}
		})
	}
	defer wg.Wait()
	waiting := map[string]bool{}
	for _, name := range names {
		waiting[name] = true
	}
	late := time.After(5 * harness.Patience)
	for len(waiting) > 0 {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				m.b.Fatalf("the watch has ended")
			}
			if p, is := e.Object.(*v1.Pod); is && e.Type != watch.Deleted && p.Status.Phase == v1.PodRunning && harness.Ready(p) {
				delete(waiting, p.Name)
			}
		case <-late:
			m.b.Fatalf("%d pods do not become Running\n%s", len(waiting), m.n.Explain())
		}
	}
	return time.Since(began)
}

// clear deletes all pods and waits until Docker has nothing of them.
func (m *clusterMeter) clear() {
	err := m.n.Cluster.Client.CoreV1().Pods(clusterNamespace).DeleteCollection(m.b.ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
	if err != nil {
		m.b.Fatalf("delete the pods: %v", err)
	}
	harness.Eventually(m.b, "all pods are gone", 5*harness.Patience, func() error {
		own, err := m.n.Containers()
		if err == nil && len(own) > 0 {
			err = fmt.Errorf("%d containers are left", len(own))
		}
		return err
	}, m.n.Explain)
}

// requests counts what the node has asked of the API server so far, by verb and
// resource.
func (m *clusterMeter) requests() map[string]int {
	f, err := os.Open(m.audit)
	if err != nil {
		m.b.Fatalf("%v", err)
	}
	defer f.Close()
	count := map[string]int{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			Verb      string `json:"verb"`
			ObjectRef struct {
				Resource    string `json:"resource"`
				Subresource string `json:"subresource"`
			} `json:"objectRef"`
		}
		if json.Unmarshal(lines.Bytes(), &e) == nil {
			count[strings.TrimSuffix(e.Verb+" "+e.ObjectRef.Resource+"/"+e.ObjectRef.Subresource, "/")]++
		}
	}
	return count
}

func difference(now, before map[string]int) map[string]int {
	out := map[string]int{}
	for k, n := range now {
		if d := n - before[k]; d > 0 {
			out[k] = d
		}
	}
	return out
}

func (r *clusterResults) print(line func(string, ...any)) {
	line("\n%-34s %12s %12s %8s %8s", "as a node of a cluster", "bare Docker", "mini-kubelet", "ratio", "aim")
	ratio := func(what string, floor, node time.Duration, aim float64) {
		line("%-34s %12s %12s %8.2f %8.2f%s", what, ms(floor), ms(node), div(node, floor), aim, verdict(div(node, floor), aim))
	}
	ratio("1 pod, bind to Running", r.OneFloor, r.OneNode, aimClusterOne)
	ratio(fmt.Sprintf("%d pods, bind to all Running", r.Pods), r.ManyFloor, r.ManyNode, aimClusterMany)
	line("API writes a pod start: %.1f (aim %.0f%s): %v; reads %.1f", r.WritesPerPod, aimWritesPerPod, verdict(r.WritesPerPod, aimWritesPerPod), r.Writes, r.ReadsPerPod)
	line("API requests in %v idle with %d pods: %v", r.IdleFor, r.Pods, r.IdleRequests)
	line("idle with %d pods: %.1f mcores, %.1f MiB", r.Pods, r.Millicores, r.RSSMiB)
}
