package main

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
)

func TestVersionIsInTheFormThatKubeadmParses(t *testing.T) {
	out, errOut, code := command(t, "--version")
	if code != 0 || !regexp.MustCompile(`^Kubernetes v1\.\d+\.\d+\n$`).MatchString(out) {
		t.Errorf("--version: %d %q %q", code, out, errOut)
	}
	for _, args := range [][]string{{"--version=raw"}, {"version"}} {
		if out, _, code := command(t, args...); code != 0 || !strings.HasPrefix(out, "mini-kubelet ") {
			t.Errorf("%q: %d %q", args, code, out)
		}
	}
	if _, errOut, code := command(t, "--version=x"); code == 0 || !strings.Contains(errOut, "--version") {
		t.Errorf("--version=x: %d %q", code, errOut)
	}
}

func TestHelpShowsTheFlagsThatAreActedOn(t *testing.T) {
	out, _, code := command(t, "--help")
	if code != 0 {
		t.Fatal("--help failed")
	}
	for _, want := range []string{"--pod-manifest-path string", "--config string", "--show-pods ", "-v, --v int", "reset "} {
		if !strings.Contains(out, want) {
			t.Errorf("--help does not show %q", want)
		}
	}
	if strings.Contains(out, "--storage-driver-host") {
		t.Error("--help shows flags that are not acted on")
	}
}

func TestAWrongConfigurationIsOneLineAProblem(t *testing.T) {
	_, errOut, code := command(t, "--max-pods=-1", "--sync-frequency=-1s", "--hostname-override=n1")
	want := "mini-kubelet: --sync-frequency: must be longer than 0s, got -1s\nmini-kubelet: --max-pods: must be at least 0, got -1\n"
	if code != 1 || errOut != want {
		t.Errorf("%d %q, want %q", code, errOut, want)
	}
}

func TestConfirmTakesOnlyAYes(t *testing.T) {
	for answer, want := range map[string]error{
		"y\n": nil, "Yes\n": nil, "yes": nil,
		"\n": errNotConfirmed, "n\n": errNotConfirmed, "": errNotConfirmed, "yessir\n": errNotConfirmed,
	} {
		var out bytes.Buffer
		if err := confirm(strings.NewReader(answer), &out, "Sure? "); !errors.Is(err, want) {
			t.Errorf("answer %q: %v, want %v", answer, err, want)
		}
		if out.String() != "Sure? " {
			t.Errorf("asked %q", out.String())
		}
	}
}
