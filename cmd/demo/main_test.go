package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
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

func TestWhatThePodsOfTheTourDo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	for line, want := range map[string]struct {
		out string
		err string
	}{
		"say hello 0":         {"hello\n", ""},
		"say hello 3":         {"hello\n", "exit 3"},
		"say hello x":         {"", "no exit code"},
		"say hello 256":       {"", "no exit code"},
		"stay":                {"here\ntold to end\n", ""},
		"eat 2":               {"ate 2 MiB\n", ""},
		"eat 0":               {"", "no number of MiB"},
		"eat x":               {"", "no number of MiB"},
		"check " + file:       {"", ""},
		"check " + file + "2": {"", "no such file"},
		"stay deaf now":       {"", "usage"},
	} {
		var out strings.Builder
		err := run(ended, strings.Fields(line), &out)
		if out.String() != want.out || (err == nil) != (want.err == "") || err != nil && !strings.Contains(err.Error(), want.err) {
			t.Errorf("%s: %q, %v", line, out.String(), err)
		}
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

// As PID 1 it has to end cleanly and in time, whatever its clients do.
func TestProgramEndsWhenToldTo(t *testing.T) {
	program := filepath.Join(t.TempDir(), "demo")
	if text, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	cmd := exec.CommandContext(t.Context(), program, "write", filepath.Join(t.TempDir(), "times"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan() // it handles the signal before it writes anything
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	for lines.Scan() { // Wait may be called once everything is read
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

func TestServeEndsThoughAClientHoldsOn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	began := make(chan struct{})
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done() // until its connection is cut
	})
	served := make(chan error, 1)
	go func() { served <- serve(ctx, listener, handler, io.Discard) }()
	client := make(chan struct{})
	go func() {
		defer close(client)
		if resp, err := http.Get("http://" + listener.Addr().String()); err == nil {
			resp.Body.Close()
			t.Errorf("answered %s", resp.Status)
		}
	}()
	<-began
	cancel()
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	<-client
}

func TestWrongUsageIsSaid(t *testing.T) {
	for _, args := range [][]string{nil, {"dance"}, {"init", "x"}, {"write"}} {
		if err := run(t.Context(), args, io.Discard); err == nil || !strings.Contains(err.Error(), "usage") {
			t.Errorf("run(%q) = %v", args, err)
		}
	}
}
