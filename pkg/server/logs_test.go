package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestLogOptions(t *testing.T) {
	all := func(change func(*v1.PodLogOptions)) *v1.PodLogOptions {
		o := &v1.PodLogOptions{Stream: ptr.To(v1.LogStreamAll)}
		if change != nil {
			change(o)
		}
		return o
	}
	at := metav1.Time{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Local()}
	tests := []struct {
		query   string
		want    *v1.PodLogOptions // nil: it cannot be read
		invalid bool
	}{
		{"", all(nil), false},
		{"follow=true&previous=1&timestamps=", all(func(o *v1.PodLogOptions) { o.Follow, o.Previous, o.Timestamps = true, true, true }), false},
		{"follow=false&previous=0", all(nil), false},
		{"tailLines=0", all(func(o *v1.PodLogOptions) { o.TailLines = ptr.To[int64](0) }), false},
		{"tailLines=-1", all(func(o *v1.PodLogOptions) { o.TailLines = ptr.To[int64](-1) }), true},
		{"tailLines=many", nil, false},
		{"tail=5", all(func(o *v1.PodLogOptions) { o.TailLines = ptr.To[int64](5) }), false},
		{"tail=all&tailLines=5", all(nil), false},
		{"limitBytes=1", all(func(o *v1.PodLogOptions) { o.LimitBytes = ptr.To[int64](1) }), false},
		{"limitBytes=0", all(func(o *v1.PodLogOptions) { o.LimitBytes = ptr.To[int64](0) }), true},
		{"limitBytes=1.5", nil, false},
		{"sinceSeconds=10", all(func(o *v1.PodLogOptions) { o.SinceSeconds = ptr.To[int64](10) }), false},
		{"sinceSeconds=0", all(func(o *v1.PodLogOptions) { o.SinceSeconds = ptr.To[int64](0) }), true},
		{"sinceTime=2026-01-02T03:04:05Z", all(func(o *v1.PodLogOptions) { o.SinceTime = &at }), false},
		{"sinceTime=yesterday", nil, false},
		{"sinceTime=2026-01-02T03:04:05Z&sinceSeconds=1", all(func(o *v1.PodLogOptions) { o.SinceTime, o.SinceSeconds = &at, ptr.To[int64](1) }), true},
		{"stream=Stderr", all(func(o *v1.PodLogOptions) { o.Stream = ptr.To(v1.LogStreamStderr) }), false},
		{"stream=stdin", all(func(o *v1.PodLogOptions) { o.Stream = ptr.To("stdin") }), true},
		{"stream=Stdout&tailLines=1", all(func(o *v1.PodLogOptions) { o.Stream, o.TailLines = ptr.To(v1.LogStreamStdout), ptr.To[int64](1) }), true},
		{"unknown=1", all(nil), false},
	}
	for _, tt := range tests {
		t.Run(tt.query, func(t *testing.T) {
			q, err := url.ParseQuery(tt.query)
			if err != nil {
				t.Fatal(err)
			}
			got, err := logOptions(q)
			if err != nil || tt.want == nil {
				if (err != nil) != (tt.want == nil) {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			if got.SinceTime != nil && got.SinceTime.Equal(tt.want.SinceTime) {
				got.SinceTime = tt.want.SinceTime
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			if err := validateLogOptions(got); (err != nil) != tt.invalid {
				t.Errorf("validation says %v", err)
			}
		})
	}
}

func TestLogs(t *testing.T) {
	both := func(_ context.Context, _ *v1.PodLogOptions, stdout, stderr io.Writer) error {
		if stdout != nil {
			fmt.Fprintln(stdout, "out")
		}
		if stderr != nil {
			fmt.Fprintln(stderr, "err")
		}
		return nil
	}
	base, client := startAPI(t, &host{logs: both}, nil)
	for query, want := range map[string]string{"": "out\nerr\n", "?stream=All": "out\nerr\n", "?stream=Stdout": "out\n", "?stream=Stderr": "err\n"} {
		if code, body := ask(t, client, "GET", base+"/containerLogs/ns/p/c"+query); code != 200 || body != want {
			t.Errorf("%s: %d %q, want %q", query, code, body, want)
		}
	}
}

func TestALogWithoutLinesThatFailsHasAnHTTPStatus(t *testing.T) {
	h := &host{logs: func(_ context.Context, _ *v1.PodLogOptions, stdout, _ io.Writer) error {
		stdout.Write(nil)
		return errors.New("failed to open log file")
	}}
	base, client := startAPI(t, h, nil)
	if code, body := ask(t, client, "GET", base+"/containerLogs/ns/p/c"); code != 400 || body != "failed to open log file" {
		t.Errorf("%d %q", code, body)
	}
}

func TestALogThatBreaksOffDoesNotLookWhole(t *testing.T) {
	h := &host{logs: func(_ context.Context, _ *v1.PodLogOptions, stdout, _ io.Writer) error {
		fmt.Fprintln(stdout, "line")
		return errors.New("disk error")
	}}
	base, client := startAPI(t, h, nil)
	resp, err := client.Get(base + "/containerLogs/ns/p/c?follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err == nil || string(body) != "line\n" {
		t.Errorf("%q, %v", body, err)
	}
}

func TestFollowedLinesComeAtOnce(t *testing.T) {
	next := make(chan string)
	h := &host{logs: func(ctx context.Context, _ *v1.PodLogOptions, stdout, _ io.Writer) error {
		for line := range next {
			fmt.Fprintln(stdout, line)
		}
		return nil
	}}
	base, client := startAPI(t, h, nil)
	go func() { next <- "first" }()
	resp, err := client.Get(base + "/containerLogs/ns/p/c?follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	for _, line := range []string{"first", "second"} {
		if line != "first" {
			next <- line
		}
		if got, err := body.ReadString('\n'); err != nil || strings.TrimSpace(got) != line {
			t.Fatalf("%q, %v", got, err)
		}
	}
	close(next)
	if rest, err := io.ReadAll(body); err != nil || len(rest) != 0 {
		t.Errorf("%q, %v after the end", rest, err)
	}
}
