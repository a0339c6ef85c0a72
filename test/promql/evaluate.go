package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"
)

// evaluator evaluates rules at one time over what was scraped.
type evaluator struct {
	db     *tsdb.DB
	parser parser.Parser
	engine *promql.Engine
	at     time.Time
}

func newEvaluator(db *tsdb.DB, at time.Time) *evaluator {
	p := parser.NewParser(parser.Options{})
	return &evaluator{db: db, parser: p, at: at, engine: promql.NewEngine(promql.EngineOpts{
		MaxSamples: 50_000_000, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, EnableAtModifier: true, EnableNegativeOffset: true, Parser: p,
	})}
}

// query returns the samples of an expression.
func (e *evaluator) query(ctx context.Context, expr string) (promql.Vector, error) {
	q, err := e.engine.NewInstantQuery(ctx, e.db, nil, expr, e.at)
	if err != nil {
		return nil, fmt.Errorf("understand %s: %w", expr, err)
	}
	defer q.Close()
	r := q.Exec(ctx)
	if r.Err != nil {
		return nil, fmt.Errorf("evaluate %s: %w", expr, r.Err)
	}
	v, err := r.Vector()
	// The samples are the query's.
	return slices.Clone(v), err
}

// check evaluates a rule and returns what is wrong with the outcome, and how many series there
// are. What is to be recorded is.
func (e *evaluator) check(ctx context.Context, r rule) (wrong []string, series int, err error) {
	v, err := e.query(ctx, r.expr)
	if err != nil {
		return nil, 0, err
	}
	switch {
	case r.kind == alert:
		wrong, err = e.checkAlert(ctx, r, v)
		return wrong, len(v), err
	case len(v) == 0:
		wrong, err = e.missing(ctx, r)
		return append([]string{"there is no series"}, wrong...), 0, err
	case r.kind == record:
		err = e.record(ctx, r, v)
	}
	return nil, len(v), err
}

func (e *evaluator) checkAlert(ctx context.Context, r rule, v promql.Vector) ([]string, error) {
	var wrong []string
	for _, s := range v {
		wrong = append(wrong, fmt.Sprintf("it fires: %s %v", s.Metric, s.F))
	}
	missing, err := e.missing(ctx, r)
	if err != nil || !r.joined || len(missing) > 0 {
		return append(wrong, missing...), err
	}
	open, err := e.withoutThresholds(r.expr)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(open, "absent(") {
		return wrong, nil // its selector was asked for
	}
	all, err := e.query(ctx, open)
	if err == nil && len(all) == 0 {
		wrong = append(wrong, "what it selects does not join: "+open+" has no series")
	}
	return wrong, err
}

// missing names the selectors of a rule that find nothing although they should.
func (e *evaluator) missing(ctx context.Context, r rule) ([]string, error) {
	expr, err := e.parser.ParseExpr(r.expr)
	if err != nil {
		return nil, err
	}
	var selectors []string
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			selectors = append(selectors, s.String())
		}
		return nil
	})
	slices.Sort(selectors)
	var wrong []string
	for _, s := range slices.Compact(selectors) {
		v, err := e.query(ctx, s)
		if err != nil {
			return nil, err
		}
		if len(v) == 0 && !slices.Contains(r.silent, s) {
			wrong = append(wrong, "nothing is found by "+s)
		}
	}
	return wrong, nil
}

// withoutThresholds has comparisons tell their outcome instead of leaving series out.
func (e *evaluator) withoutThresholds(text string) (string, error) {
	expr, err := e.parser.ParseExpr(text)
	if err != nil {
		return "", err
	}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if b, ok := n.(*parser.BinaryExpr); ok && b.Op.IsComparisonOperator() {
			b.ReturnBool = true
		}
		return nil
	})
	return expr.String(), nil
}

func (e *evaluator) record(ctx context.Context, r rule, v promql.Vector) error {
	app := e.db.Appender(ctx)
	for _, s := range v {
		b := labels.NewBuilder(s.Metric)
		b.Set(labels.MetricName, r.name)
		if r.quantile != "" {
			b.Set("quantile", r.quantile)
		}
		if _, err := app.Append(0, b.Labels(), e.at.UnixMilli(), s.F); err != nil {
			_ = app.Rollback()
			return fmt.Errorf("record %s: %w", r.name, err)
		}
	}
	return app.Commit()
}
