package imageservice

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/image"
	"google.golang.org/protobuf/proto"
)

// FuzzImageConfig: whatever Docker says of an image, most of which its author wrote, is
// described within CRI's rules or not at all.
func FuzzImageConfig(f *testing.F) {
	for _, text := range []string{
		`{"Id":"sha256:1","RepoTags":["a:1","<none>:<none>"],"RepoDigests":["a@sha256:2"],"Size":5,"Config":{"User":"1000:1","Env":["A=b"],"Labels":{"a":"b"}},"RootFS":{"Type":"layers","Layers":["sha256:3","sha256:4"]}}`,
		`{"Config":null,"RootFS":{"Layers":[""]},"Size":-1}`, `{"Config":{"User":":"},"GraphDriver":{"Name":"x","Data":null}}`,
		`{"Config":{"User":"99999999999999999999","ExposedPorts":{"":{}},"Volumes":{"":{}},"Healthcheck":{"Test":[]}}}`, `{"Config":{"User":"-1"}}`, `null`,
	} {
		f.Add([]byte(text))
	}
	s := &Service{sandbox: target{id: "sha256:1"}}
	f.Fuzz(func(t *testing.T, text []byte) {
		var in image.InspectResponse
		if json.Unmarshal(text, &in) != nil {
			return
		}
		out := s.fromInspect(&in)
		switch {
		case out.Size == 0 || out.Size > math.MaxInt64:
			t.Errorf("size %d", out.Size)
		case out.Uid != nil && (out.Username != "" || out.Uid.Value < 0 || out.Uid.Value > math.MaxUint32):
			t.Errorf("user %v, %q", out.Uid, out.Username)
		case strings.Contains(out.Username, ":"):
			t.Errorf("user %q", out.Username)
		}
		for _, name := range append(out.RepoTags, out.RepoDigests...) {
			if strings.HasPrefix(name, "<none>") {
				t.Errorf("name %q", name)
			}
		}
		if _, err := proto.Marshal(out); err != nil {
			t.Errorf("it cannot be sent: %v", err)
		}
		if in.RootFS.Layers == nil {
			in.RootFS.Layers = []string{}
		}
		if info, err := verboseInfo(&in); err == nil && !json.Valid([]byte(info["info"])) {
			t.Errorf("info %q", info["info"])
		}
	})
}
