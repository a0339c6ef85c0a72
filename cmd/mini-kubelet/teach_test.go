package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
)

func TestWhatTeachAsksFor(t *testing.T) {
	find := func(name string) (types.UID, error) {
		if name != "web" {
			return "", errors.New("no such pod")
		}
		return "u", nil
	}
	for line, want := range map[string]*server.TeachRequest{
		"": nil, "step": {Do: "step"}, "pause": {Do: "pause"}, "run": {Do: "run"}, "next web": {Do: "next", Pod: "u"}, "slow 10": {Do: "slow", Factor: 10},
	} {
		if got, err := teachRequest(strings.Fields(line), find); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("teach %s: %+v, %v", line, got, err)
		}
	}
	for _, line := range []string{"next", "next nobody", "slow", "slow x", "step 2", "run now"} {
		if got, err := teachRequest(strings.Fields(line), find); err == nil {
			t.Errorf("teach %s: %+v", line, got)
		}
	}
}

func TestGatesInWords(t *testing.T) {
	var out strings.Builder
	writeGates(&out, &gate.State{Mode: gate.Paused, Waiting: []gate.Step{
		{Place: gate.CRI, Pod: "u", What: "StartContainer"}, {Place: gate.Loop, Pod: "v", What: "ADD db"},
	}}, map[types.UID]string{"u": "web"})
	writeGates(&out, &gate.State{Mode: gate.Slowed, Factor: 10}, nil)
	want := "paused; 2 waiting\n> cri    StartContainer  web\n  loop   ADD db  v\nslow, 10 times; 0 waiting\n"
	if out.String() != want {
		t.Errorf("%s, want\n%s", out.String(), want)
	}
}
