package main

import (
	"fmt"
	"io"
	"time"
)

// Aims of the project, which the results are printed beside.
const (
	aimOne        = 1.3  // times the floor
	aimMany       = 1.2  // times the floor
	aimVolumes    = 1.15 // times a pod without volumes
	aimMillicores = 10.0 // idle with many pods
	aimRSSMiB     = 60.0 // idle with many pods
)

// results is what was measured; durations are nanoseconds in the JSON.
type results struct {
	Docker          string
	Pods            int
	OneFloor        time.Duration
	OneAgent        time.Duration
	OneNoVolumes    time.Duration
	OneVolumes      time.Duration
	Concurrency     []atConcurrency
	BestConcurrency int
	ManyFloor       time.Duration
	ManyAgent       time.Duration
	Idle            []idle
	Growth          []growth
	Cluster         *clusterResults
	CRI             *criResults
	Eviction        *evictionResults
	Scrape          *scrapeResults

	phases []phases
}

type atConcurrency struct {
	Concurrency int
	Took        time.Duration
}

type growth struct {
	Pods         int
	Floor, Agent time.Duration
}

type idle struct {
	Pods              int
	Millicores        float64
	DockerdMillicores float64 // -1 where it is not known
	RSSMiB            float64
}

func (r *results) print(w io.Writer) {
	line := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	if r.Pods > 0 {
		r.printAgent(line)
	}
	if r.Cluster != nil {
		r.Cluster.print(line)
	}
	if r.CRI != nil {
		r.CRI.print(line)
	}
	if r.Eviction != nil {
		r.Eviction.print(line)
	}
	if r.Scrape != nil {
		r.Scrape.print(line)
	}
}

// printAgent says what the agent was measured at.
func (r *results) printAgent(line func(string, ...any)) {
	line("\nDocker %s", r.Docker)
	line("%-34s %12s %12s %8s %8s", "", "bare Docker", "mini-kubelet", "ratio", "aim")
	ratio := func(what string, floor, agent time.Duration, aim float64) {
		line("%-34s %12s %12s %8.2f %8.2f%s", what, ms(floor), ms(agent), div(agent, floor), aim, verdict(div(agent, floor), aim))
	}
	ratio("1 pod, manifest to Running", r.OneFloor, r.OneAgent, aimOne)
	ratio(fmt.Sprintf("%d pods, manifest to all Running", r.Pods), r.ManyFloor, r.ManyAgent, aimMany)
	line("%-34s %10.1f/s %10.1f/s", "  that is, pods started", float64(r.Pods)/r.ManyFloor.Seconds(), float64(r.Pods)/r.ManyAgent.Seconds())
	line("%-34s %12s %12s %8.2f %8.2f%s", fmt.Sprintf("1 pod without, with %d volumes", objectVolumes), ms(r.OneNoVolumes), ms(r.OneVolumes),
		div(r.OneVolumes, r.OneNoVolumes), aimVolumes, verdict(div(r.OneVolumes, r.OneNoVolumes), aimVolumes))
	for _, c := range r.Concurrency {
		best := ""
		if c.Concurrency == r.BestConcurrency {
			best = "  the best"
		}
		line("%-34s %12s%s", fmt.Sprintf("  bare Docker, %d at a time", c.Concurrency), ms(c.Took), best)
	}

	var p phases
	for _, part := range []struct {
		of   func(phases) time.Duration
		into *time.Duration
	}{
		{func(p phases) time.Duration { return p.seen }, &p.seen},
		{func(p phases) time.Duration { return p.sandbox }, &p.sandbox},
		{func(p phases) time.Duration { return p.container }, &p.container},
		{func(p phases) time.Duration { return p.status }, &p.status},
	} {
		var all []time.Duration
		for _, one := range r.phases {
			all = append(all, part.of(one))
		}
		*part.into = median(all)
	}
	line("\nWhere one pod's time goes (medians): manifest to sandbox created %s, to sandbox started %s, to container started %s, to Running in /pods %s",
		ms(p.seen), ms(p.sandbox), ms(p.container), ms(p.status))

	line("\n%-10s %22s %22s %16s", "idle with", "mini-kubelet, mcores", "dockerd, mcores", "resident, MiB")
	for _, i := range r.Idle {
		mark := ""
		if i.Pods == r.Pods {
			mark = fmt.Sprintf("  aims %.0f mcores, %.0f MiB%s", aimMillicores, aimRSSMiB, verdict(max(i.Millicores/aimMillicores, i.RSSMiB/aimRSSMiB), 1))
		}
		line("%-10s %22.1f %22s %16.1f%s", fmt.Sprintf("%d pods", i.Pods), i.Millicores, known(i.DockerdMillicores), i.RSSMiB, mark)
	}
	if len(r.Growth) > 0 {
		line("\n%-10s %22s %22s %16s", "start of", "bare Docker, a pod", "mini-kubelet, a pod", "ratio")
		for _, g := range r.Growth {
			n := time.Duration(g.Pods)
			line("%-10s %22s %22s %16.2f", fmt.Sprintf("%d pods", g.Pods), ms(g.Floor/n), ms(g.Agent/n), div(g.Agent, g.Floor))
		}
	}
}

// print says what the dockershim costs on its own.
func (r *criResults) print(line func(string, ...any)) {
	line("\n%-34s %12s %12s %8s %8s", "", "bare Docker", "dockershim", "ratio", "aim")
	for _, c := range r.Calls {
		line("%-34s %12s %12s %8.2f %8.2f%s", c.What, exact(c.Docker), exact(c.CRI), div(c.CRI, c.Docker), aimCall, verdict(div(c.CRI, c.Docker), aimCall))
	}
	line("%-34s %7.0f MB/s %7.0f MB/s %8.2f", fmt.Sprintf("%.0f MiB of log, until all is read", r.LogMiB),
		r.LogMiB*1.048576/r.LogDockerTook.Seconds(), r.LogMiB*1.048576/r.LogTook.Seconds(), div(r.LogTook, r.LogDockerTook))
	line("The log's copy in CRI's form costs %s of CPU a MiB.", exact(r.LogCPUPerMiB))
	line("%.0f MiB of log, rotated to %d files meanwhile: %.0f MB/s, %d lines missing (aim: 0).", r.RotatedMiB, r.RotatedFiles,
		r.RotatedMiB*1.048576/r.RotatedTook.Seconds(), r.RotatedMissing)
	line("ListContainerStats of %d running containers takes %s and %s of CPU (aim: 50 ms).", r.StatsOf, exact(r.StatsTook), exact(r.StatsCPU))
}

func exact(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond)) }

func div(a, b time.Duration) float64 { return float64(a) / float64(max(b, 1)) }

func verdict(got, aim float64) string {
	if got > aim {
		return "  MISSED"
	}
	return "  met"
}

func known(v float64) string {
	if v < 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", v)
}
