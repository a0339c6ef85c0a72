// Command promql is a Prometheus for a minute: it scrapes what its configuration names, with
// Prometheus' own scraper into Prometheus' own storage, then evaluates the rules of
// kube-prometheus with Prometheus' own engine, and says which find nothing on a healthy node
// and which alerts fire. It fails if there are any.
//
//	promql -config prometheus.yml -scrapes 6
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/tsdb"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "promql:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, out io.Writer) (err error) {
	fs := flag.NewFlagSet("promql", flag.ContinueOnError)
	file := fs.String("config", "", "configuration as Prometheus reads it; targets are static")
	scrapes := fs.Int("scrapes", 6, "how often each target is scraped")
	patience := fs.Duration("patience", 3*time.Minute, "how long that may take")
	if err := fs.Parse(args); err != nil {
		return err
	}
	text, err := os.ReadFile(*file)
	if err != nil {
		return err
	}
	cfg, err := config.Load(string(text), slog.New(slog.DiscardHandler))
	if err != nil {
		return fmt.Errorf("read %s: %w", *file, err)
	}
	dir, err := os.MkdirTemp("", "promql")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	db, err := tsdb.Open(dir, nil, nil, tsdb.DefaultOptions(), nil)
	if err != nil {
		return fmt.Errorf("open the storage: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := collect(ctx, db, cfg, *scrapes, *patience); err != nil {
		return err
	}
	return judge(ctx, newEvaluator(db, time.Now()), out)
}

// collect scrapes until every target has answered that often, and the last time, too: one scrape may
// take too long on a busy machine.
func collect(ctx context.Context, db *tsdb.DB, cfg *config.Config, scrapes int, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := scrape.NewManager(&scrape.Options{DiscoveryReloadOnStartup: true}, slog.New(slog.NewTextHandler(os.Stderr, nil)), nil, nil, db, prometheus.NewRegistry())
	if err != nil {
		return fmt.Errorf("make the scraper: %w", err)
	}
	if err := m.ApplyConfig(cfg); err != nil {
		return fmt.Errorf("configure the scraper: %w", err)
	}
	found := targets(cfg)
	sets := make(chan map[string][]*targetgroup.Group, 1)
	sets <- found
	done := make(chan error, 1)
	go func() { done <- m.Run(sets) }()
	defer func() {
		m.Stop()
		<-done
	}()
	want := 0
	for _, groups := range found {
		for _, g := range groups {
			want += len(g.Targets)
		}
	}
	for {
		v, err := newEvaluator(db, time.Now()).query(ctx, fmt.Sprintf("sum_over_time(up[1h]) >= %d and up == 1", scrapes))
		if err != nil {
			return err
		}
		if len(v) >= want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d targets have answered %d times: %w", len(v), want, scrapes, ctx.Err())
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// targets returns the static targets, by job.
func targets(cfg *config.Config) map[string][]*targetgroup.Group {
	all := map[string][]*targetgroup.Group{}
	for _, s := range cfg.ScrapeConfigs {
		for _, d := range s.ServiceDiscoveryConfigs {
			if static, ok := d.(discovery.StaticConfig); ok {
				all[s.JobName] = append(all[s.JobName], static...)
			}
		}
	}
	return all
}

// judge evaluates all rules in order and reports on each.
func judge(ctx context.Context, e *evaluator, out io.Writer) error {
	down, err := e.query(ctx, "up == 0 or scrape_samples_scraped == 0")
	if err != nil {
		return err
	}
	bad := 0
	for _, s := range down {
		bad++
		fmt.Fprintf(out, "FAIL scrape %s\n", s.Metric)
	}
	for _, r := range rules() {
		wrong, series, err := e.check(ctx, r)
		if err != nil {
			return fmt.Errorf("%s %s: %w", r.kind, r.name, err)
		}
		if len(wrong) == 0 {
			fmt.Fprintf(out, "ok   %s %s: %d series\n", r.kind, r.name, series)
			continue
		}
		bad++
		fmt.Fprintf(out, "FAIL %s %s: %s\n", r.kind, r.name, r.expr)
		for _, w := range wrong {
			fmt.Fprintf(out, "     %s\n", w)
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d rules are not as on a healthy node", bad, len(rules()))
	}
	return nil
}
