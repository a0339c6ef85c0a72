package main

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// aimScrape is how much longer than reading the same files of cgroups a scrape may take.
const aimScrape = 2.0

// scrapeResults is what scrapes cost at many pods.
type scrapeResults struct {
	Pods    int
	Scrapes []scraped
}

type scraped struct {
	Path          string
	Bytes         int
	Files         int // of cgroups, read bare
	Bare, Scraped time.Duration
	// Of all repetitions together: a shared machine disturbs it less than how long they took.
	BareCPU, ScrapedCPU time.Duration
}

// usageFiles are the files of cgroups that /stats/summary needs: of version 1 by controller, of
// version 2 in one directory. Those that a kernel lacks are not read.
var usageFiles = []string{
	"cpuacct.usage", "memory.usage_in_bytes", "memory.stat", "memory.memsw.usage_in_bytes", "memory.memsw.limit_in_bytes", "pids.current",
	"cpu.stat", "cpu.pressure", "memory.current", "memory.max", "memory.swap.current", "memory.swap.max", "memory.pressure", "io.pressure",
}

// allFiles are what /metrics/cadvisor needs besides.
var allFiles = append([]string{
	"cpuacct.stat", "cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us",
	"memory.max_usage_in_bytes", "memory.kmem.usage_in_bytes", "memory.failcnt", "memory.soft_limit_in_bytes", "memory.oom_control",
	"pids.max", "blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive",
	"cpu.weight", "cpu.max", "memory.peak", "memory.min", "memory.events", "io.stat", processFiles,
}, usageFiles...)

// processFiles is in the directory of every controller of version 1; it is read in one.
const processFiles = "cgroup.procs"

// measureScrapes compares scrapes of an agent with many pods and reading the files of their
// cgroups with nothing made of them, by turns.
func measureScrapes(b *bench, d *harness.Dockerd, pods, repeat int) *scrapeResults {
	a := harness.StartAgent(b, harness.AgentConfig{Docker: d})
	m := &meter{b: b, d: d, a: a}
	var all []*v1.Pod
	for range pods {
		all = append(all, m.pod())
	}
	b.Logf("%d pods, scraped %d times by turns with reading their cgroups ...", pods, repeat)
	a.Write("pods.yaml", all...)
	m.awaitRunning(pods)
	r := &scrapeResults{Pods: pods}
	for path, names := range map[string][]string{"/metrics/cadvisor": allFiles, "/stats/summary": usageFiles} {
		files := cgroupFiles(b, a, names)
		s := scraped{Path: path, Files: len(files)}
		var bare, own []time.Duration
		for range repeat {
			s.BareCPU += cpuOver(b, os.Getpid(), func() { bare = append(bare, timed(func() { readAll(files) })) })
			// Two who ask within a second share one reading.
			<-time.After(1100 * time.Millisecond)
			s.ScrapedCPU += cpuOver(b, a.PID(), func() { own = append(own, timed(func() { s.Bytes = scrape(b, a, path) })) })
		}
		s.Bare, s.Scraped = median(bare), median(own)
		r.Scrapes = append(r.Scrapes, s)
	}
	m.clear()
	return r
}

// cgroupFiles lists the files with these names of the cgroups of the agent's pods.
func cgroupFiles(b *bench, a *harness.Agent, names []string) []string {
	roots, err := filepath.Glob("/sys/fs/cgroup/*" + a.CgroupRoot())
	if err != nil {
		b.Fatalf("%v", err)
	}
	roots = append(roots, "/sys/fs/cgroup"+a.CgroupRoot())
	var files []string
	seen := map[string]bool{} // real paths: cpu and cpuacct are one directory with two names
	for _, root := range roots {
		root, err := filepath.EvalSymlinks(root)
		if err != nil || seen[root] {
			continue
		}
		seen[root] = true
		_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			name := filepath.Base(path)
			if err != nil || e.IsDir() || !slices.Contains(names, name) {
				return nil
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), "memory.stat")); name != processFiles || err == nil {
				files = append(files, path)
			}
			return nil
		})
	}
	if len(files) == 0 {
		b.Fatalf("the agent's pods have no cgroups below /sys/fs/cgroup")
	}
	return files
}

// cpuOver returns how much CPU time, the user's and the system's, a process used meanwhile.
func cpuOver(b *bench, pid int, do func()) time.Duration {
	before, err := harness.CPUTime(pid)
	if err != nil {
		b.Fatalf("%v", err)
	}
	do()
	after, err := harness.CPUTime(pid)
	if err != nil {
		b.Fatalf("%v", err)
	}
	return after - before
}

func readAll(files []string) {
	for _, f := range files {
		_, _ = os.ReadFile(f) // some cannot be read, such as pressure where it is off
	}
}

// scrape returns how long the answer was.
func scrape(b *bench, a *harness.Agent, path string) int {
	resp, err := http.Get("http://" + a.ReadOnly() + path)
	if err != nil {
		b.Fatalf("%v", err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Fatalf("scrape %s: %s, %v", path, resp.Status, err)
	}
	return int(n)
}

func (r *scrapeResults) print(line func(string, ...any)) {
	line("\n%-42s %12s %12s %8s %8s", fmt.Sprintf("%d pods", r.Pods), "bare reading", "scrape", "ratio", "aim")
	for _, s := range r.Scrapes {
		line("%-42s %12s %12s %8.2f %8.2f%s", fmt.Sprintf("%s, %d files, %d KiB", s.Path, s.Files, s.Bytes>>10), exact(s.Bare), exact(s.Scraped),
			div(s.Scraped, s.Bare), aimScrape, verdict(div(s.Scraped, s.Bare), aimScrape))
		line("%-42s %12s %12s %8.2f %8.2f%s", "  CPU time of all its repetitions", exact(s.BareCPU), exact(s.ScrapedCPU),
			div(s.ScrapedCPU, s.BareCPU), aimScrape, verdict(div(s.ScrapedCPU, s.BareCPU), aimScrape))
	}
}
