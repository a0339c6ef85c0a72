package docker

import (
	"encoding/json"
	"testing"

	"github.com/docker/docker/api/types/image"
)

// FuzzImageConfig: whatever the author of an image wrote, it weighs at least its length, and
// the length of its program is one of its words'.
func FuzzImageConfig(f *testing.F) {
	for _, text := range []string{
		`{"Id":"sha256:1","RepoDigests":["a@sha256:2"],"Config":{"Entrypoint":["/a"],"Cmd":["b"],"WorkingDir":"/w","Env":["A=b"],"Labels":{"a":"b"},"Volumes":{"/v":{}}}}`,
		`{"Config":{"Entrypoint":[""],"Cmd":null}}`, `{"Config":{"Env":["A=\u0000"]}}`, `{"Config":null,"RepoDigests":["", "@"]}`, `null`,
	} {
		f.Add([]byte(text), "", "")
		f.Add([]byte(text), "command", "arg")
	}
	f.Fuzz(func(t *testing.T, text []byte, command, arg string) {
		var in image.InspectResponse
		if json.Unmarshal(text, &in) != nil {
			return
		}
		facts := factsOf(in)
		if in.Config == nil {
			return
		}
		weight := LabelWeight*len(in.Config.Labels) + volumeWeight*len(in.Config.Volumes)
		for k, v := range in.Config.Labels {
			weight += imageLabelTimes * (len(k) + len(v))
		}
		for _, e := range in.Config.Env {
			weight += len(e)
		}
		if facts.Weight < weight {
			t.Errorf("it weighs %d, want at least %d", facts.Weight, weight)
		}
		for _, words := range [][2][]string{{nil, nil}, {{command}, nil}, {nil, {arg}}, {{command}, {arg}}} {
			got, ok := facts.Program(words[0], words[1]), false
			for _, list := range [][]string{words[0], words[1], in.Config.Entrypoint, in.Config.Cmd} {
				ok = ok || len(list) > 0 && len(list[0]) == got
			}
			if !ok && got != 0 {
				t.Errorf("%q: a program of %d bytes", words, got)
			}
		}
	})
}
