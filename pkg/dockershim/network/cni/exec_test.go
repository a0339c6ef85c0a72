package cni

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// script makes a plug-in of a shell script.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ours")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestErrorsOfPlugInsAreShortAndSayWhichFailedAtWhat(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for name, tt := range map[string]struct{ text, want string }{
		"in CNI's form":         {`echo '{"code": 7, "msg": "the pool is empty", "details": "sorry"}'; exit 1`, "plug-in ours, ADD: the pool is empty; sorry"},
		"a long one":            {`echo '{"code": 7, "msg": "` + long + `"}'; exit 1`, "plug-in ours, ADD: " + long[:maxComplain-3] + "..."},
		"in words":              {"echo no luck >&2; exit 2", "plug-in ours, ADD: exit status 2: no luck"},
		"garbage":               {"echo '{garbage'; exit 2", "plug-in ours, ADD: exit status 2: {garbage"},
		"without a word":        {"kill -9 $$", "plug-in ours, ADD: signal: killed"},
		"that never stop":       {"yes", "plug-in ours, ADD: more than 1048576 bytes of output: " + strings.Repeat("y\n", 511)[:maxComplain-3] + "..."},
		"an answer of the dead": {`echo '{"msg": ""}'; exit 1`, `plug-in ours, ADD: exit status 1: {"msg": ""}`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := (&runner{}).ExecPlugin(t.Context(), script(t, tt.text), nil, append(os.Environ(), "CNI_COMMAND=ADD"))
			if err == nil || err.Error() != tt.want {
				t.Errorf("%.200v\nwant %.200s", err, tt.want)
			}
		})
	}
}

// A plug-in of a script, say, has children that hold its output open.
func TestAPlugInThatHangsWithAChildIsNotWaitedFor(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := (&runner{}).ExecPlugin(ctx, script(t, "sleep 1000 & wait"), nil, []string{"PATH=" + os.Getenv("PATH"), "CNI_COMMAND=DEL"})
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "plug-in ours, DEL: no answer within") {
			t.Errorf("%v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it is still waited for")
	}
}

func TestASandboxThatHangsHoldsUpNoOther(t *testing.T) {
	bin := filepath.Dir(script(t, `case $CNI_CONTAINERID in a*) sleep 1000;; esac`))
	state := t.TempDir()
	d, err := New(Config{Network: NewDir(t.TempDir()), BinDirs: []string{bin}, CacheDir: t.TempDir(), StateDir: state})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{a, keep, drop} {
		rec := record{Sandbox: sandbox(id), Config: []byte(`{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "ours"}]}`)}
		if err := d.records.write(rec); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	reconciled := make(chan error, 1)
	go func() { reconciled <- d.Reconcile(ctx, func(id string) bool { return id == keep }) }()
	for gone := false; !gone; time.Sleep(10 * time.Millisecond) {
		_, err := d.records.read(drop)
		gone = errors.Is(err, fs.ErrNotExist)
		select {
		case err := <-reconciled:
			t.Fatalf("it ended: %v", err)
		default:
		}
	}
	short, end := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer end()
	if err := d.Del(short, a, ""); err == nil || !strings.Contains(err.Error(), "is busy") {
		t.Errorf("a second call for the sandbox that hangs: %v", err)
	}
	cancel()
	if err := <-reconciled; err == nil || !strings.Contains(err.Error(), a) || strings.Contains(err.Error(), drop) {
		t.Errorf("%v, want an error about the one that hung", err)
	}
	if ids, _ := d.records.ids(); len(ids) != 2 {
		t.Errorf("records %v, want those of the one kept and the one that hung", ids)
	}
}
