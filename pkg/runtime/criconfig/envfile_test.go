package criconfig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
)

func TestEnvFileValue(t *testing.T) {
	long := strings.Repeat("x", 70<<10)
	for name, tt := range map[string]struct{ text, want, err string }{
		"a value":                             {"K='v'\n", "v", ""},
		"without a newline at the end":        {"K='v'", "v", ""},
		"the first of two":                    {"K='1'\nK='2'\n", "1", ""},
		"after others":                        {"A='a'\nKK='b'\n\n \t\n# K='no'\n\t# nor this\n  K='v'\n", "v", ""},
		"taken literally":                     {`K='a $A "b" \n # c='` + "\n", `a $A "b" \n # c=`, ""},
		"over several lines":                  {"K='a\n\n# b\n c'\n", "a\n\n# b\n c", ""},
		"after one over several lines":        {"A='1\nK='\nK='v'\n", "v", ""},
		"a comment behind":                    {"K='v'  # it's\n", "v", ""},
		"no space before the comment":         {"K='v'#c\n", "v", ""},
		"lines of Windows":                    {"K='a\r\nb'\r\n", "a\nb", ""},
		"an odd name":                         {"a.b-c='1'\nK='v'\n", "v", ""},
		"what follows is not looked at":       {"K='v'\nwrong\n", "v", ""},
		"missing":                             {"A='v'\n", "", errNoKey.Error()},
		"an empty file":                       {"", "", errNoKey.Error()},
		"empty is missing":                    {"K=''\nK='v'\n", "", errNoKey.Error()},
		"to a shell empty":                    {"K= 'v'\n", "", errNoKey.Error()},
		"another that is empty to a shell":    {"A= whatever\nK='v'\n", "v", ""},
		"no assignment":                       {"A='a'\nK\n", "", "line 2 has no '='"},
		"no name":                             {"='a'\n", "", "line 1 has no name before '='"},
		"only space as a name":                {" \t='a'\n", "", "line 1 has no name before '='"},
		"space before the sign":               {"K ='a'\n", "", "line 1 has white space before '='"},
		"no quotes":                           {"K=v\n", "", "line 1: the value is not in single quotes"},
		"double quotes":                       {"K=\"v\"\n", "", "line 1: the value is not in single quotes"},
		"no value":                            {"K=\n", "", "line 1: the value is not in single quotes"},
		"two words":                           {"K='v'w\n", "", "line 1 goes on after the closing quote"},
		"two words, lines below":              {"A='1\n2\n3' 4\nK='v'\n", "", "line 3 goes on after the closing quote"},
		"lines are counted over values":       {"A='1\n2'\nwrong\nK='v'\n", "", "line 3 has no '='"},
		"never closed":                        {"A='a'\nK='v\n\n", "", "the quote that line 2 opens is not closed"},
		"a line longer than the kubelet's 64": {"K='" + long + "'\n", "", "token too long"},
		"the same within a value":             {"K='\n" + long + "'\n", "", "token too long"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := envFileValue([]byte(tt.text), "K")
			if tt.err == "" {
				if err != nil || got != tt.want {
					t.Errorf("got %q, %v; want %q", got, err, tt.want)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %q, %v; want error %q", got, err, tt.err)
			}
		})
	}
}

// shelf is the files of volumes by "volume/path", and how often they were read.
type shelf struct {
	files map[string]string
	read  int
}

func (s *shelf) Path(_ *v1.Pod, name string) (volume.Path, error) {
	if name == "away" {
		return volume.Path{}, errors.New("not set up")
	}
	return volume.Path{Host: "/volumes/" + name}, nil
}

func (s *shelf) SubPath(context.Context, *v1.Pod, string, int, string, string) (string, error) {
	return "", errors.New("not asked for")
}

func (s *shelf) MountPoints(context.Context, *v1.Pod, *v1.Container) error { return nil }

func (*shelf) Groups(*v1.Pod) []int64 { return nil }

func (s *shelf) ReadFile(_ context.Context, _ *v1.Pod, name, path string, limit int64) ([]byte, error) {
	s.read++
	text, ok := s.files[name+"/"+path]
	switch {
	case !ok:
		return nil, fmt.Errorf("open %q: %w", path, fs.ErrNotExist)
	case int64(len(text)) > limit:
		return nil, fmt.Errorf("%q is too large", path)
	}
	return []byte(text), nil
}

func TestEnvFromFiles(t *testing.T) {
	yes := true
	ref := func(volume, path, key string, optional *bool) *v1.EnvVarSource {
		return &v1.EnvVarSource{FileKeyRef: &v1.FileKeySelector{VolumeName: volume, Path: path, Key: key, Optional: optional}}
	}
	files := map[string]string{"data/f": "A='secret'\nB='$(X)'\nE=''\n", "data/wrong": "TOP SECRET\n", "data/large": strings.Repeat("\n", maxEnvFiles+1), "data/nearly": "A='a'" + strings.Repeat("\n", maxEnvFiles-5)}
	for name, tt := range map[string]struct {
		env  []v1.EnvVar
		want string
		err  string
	}{
		"keys of one file, not expanded":     {env: []v1.EnvVar{{Name: "X", Value: "x"}, {Name: "A", ValueFrom: ref("data", "f", "A", nil)}, {Name: "R", Value: "$(A)"}, {Name: "B2", ValueFrom: ref("data", "f", "B", &yes)}}, want: "X=x A=secret R=secret B2=$(X)"},
		"optional, and nothing there":        {env: []v1.EnvVar{{Name: "A", ValueFrom: ref("data", "f", "no", &yes)}, {Name: "B", ValueFrom: ref("data", "no", "A", &yes)}, {Name: "C", ValueFrom: ref("data", "f", "E", &yes)}}},
		"a missing key":                      {env: []v1.EnvVar{{Name: "A", ValueFrom: ref("data", "f", "no", nil)}}, err: `environment variable key "no" not found in file "/volumes/data/f"`},
		"an empty value":                     {env: []v1.EnvVar{{Name: "A", ValueFrom: ref("data", "f", "E", nil)}}, err: `environment variable key "E" not found in file "/volumes/data/f"`},
		"a missing file":                     {env: []v1.EnvVar{{Name: "A", ValueFrom: ref("data", "no", "A", nil)}}, err: `couldn't parse env file: open "no": file does not exist`},
		"a wrong file, also where optional":  {env: []v1.EnvVar{{Name: "A", ValueFrom: ref("data", "wrong", "A", &yes)}}, err: "couldn't parse env file: line 1 has no '='"},
		"files too large together":           {env: []v1.EnvVar{{Name: "A", ValueFrom: ref("data", "f", "A", nil)}, {Name: "B", ValueFrom: ref("data", "nearly", "A", nil)}}, err: `couldn't parse env file: "nearly" is too large`},
		"a file that is too large":           {env: []v1.EnvVar{{Name: "A", ValueFrom: ref("data", "large", "A", nil)}}, err: `couldn't parse env file: "large" is too large`},
		"no such volume":                     {env: []v1.EnvVar{{Name: "A", ValueFrom: ref("no", "f", "A", &yes)}}, err: `cannot find the volume "no" referenced by FileKeyRef`},
		"a volume that is not there":         {env: []v1.EnvVar{{Name: "A", ValueFrom: ref("away", "f", "A", nil)}}, err: `failed to get host path for volume "away": not set up`},
		"a volume of files that are not its": {env: []v1.EnvVar{{Name: "A", ValueFrom: ref("host", "etc/shadow", "A", nil)}}, err: `volume "host" referenced by FileKeyRef must be of type emptyDir`},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &v1.Pod{}
			empty := v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}
			pod.Spec.Volumes = []v1.Volume{{Name: "data", VolumeSource: empty}, {Name: "away", VolumeSource: empty}, {Name: "host", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/"}}}}
			s := &shelf{files: files}
			got, err := Container(t.Context(), pod, &v1.Container{Name: "c", Env: tt.env}, ContainerInput{Volumes: s})
			if tt.err != "" {
				checkError(t, err, ReasonContainerConfig, tt.err)
				if strings.Contains(err.Error(), "TOP") {
					t.Errorf("the file is quoted: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, e := range got.Envs {
				all = append(all, e.Key+"="+string(e.Value))
			}
			if strings.Join(all, " ") != tt.want {
				t.Errorf("got  %s\nwant %s", strings.Join(all, " "), tt.want)
			}
			if s.read > 2 {
				t.Errorf("%d files read of two that are named", s.read)
			}
		})
	}
}

func FuzzEnvFileValue(f *testing.F) {
	for _, s := range []string{"K='v'\n", "K='a\nb' # c", "K= 'x'", "=", "K='", "\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if v, err := envFileValue([]byte(text), "K"); err == nil && (v == "" || strings.Contains(v, "'")) {
			t.Errorf("%q gives %q", text, v)
		}
		// Whatever the value, it comes back as it was written.
		value := strings.NewReplacer("'", "", "\r", "").Replace(text)
		if value == "" || len(value) > 60<<10 {
			return
		}
		if v, err := envFileValue([]byte("K='"+value+"'\n"), "K"); err != nil || v != value {
			t.Errorf("%q came back as %q, %v", value, v, err)
		}
	})
}
