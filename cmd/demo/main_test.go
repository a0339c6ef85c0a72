package main

import (
	"context"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestInitWritesItsText(t *testing.T) {
	file := filepath.Join(t.TempDir(), "greeting")
	if err := run(t.Context(), []string{"init", file, "hello"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "hello\n" {
		t.Errorf("file is %q, %v", text, err)
	}
}

func TestPageShowsThePodAndTheFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "note"), []byte("<b>"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("POD_NAME", "web-n1")
	w := httptest.NewRecorder()
	page(dir).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	for _, want := range []string{"Hello from", "POD_NAME is web-n1", "<h2>note</h2>", "&lt;b&gt;"} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("page lacks %q:\n%s", want, w.Body)
		}
	}
}

func TestWriteKeepsTheFileShortAndEndsWhenTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "times")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := write(ctx, file, 5*time.Second, io.Discard); err != nil {
			t.Fatal(err)
		}
	})
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n != 20 {
		t.Errorf("%d lines after an hour, want the last 20", n)
	}
}

func TestServeEndsWhenTold(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := serve(ctx, "127.0.0.1:0", page(""), io.Discard); err != nil {
		t.Fatal(err)
	}
}

func TestWrongUsageIsSaid(t *testing.T) {
	for _, args := range [][]string{nil, {"dance"}, {"init", "x"}, {"write"}} {
		if err := run(t.Context(), args, io.Discard); err == nil || !strings.Contains(err.Error(), "usage") {
			t.Errorf("run(%q) = %v", args, err)
		}
	}
}
