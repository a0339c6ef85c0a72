package record

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/keyring"
)

func TestWhatIsOnRecordAndLookedUpIsCounted(t *testing.T) {
	policy, err := options.NewImageVerification("NeverVerifyPreloadedImages", nil)
	if err != nil {
		t.Fatal(err)
	}
	r := prometheus.NewPedanticRegistry()
	s, err := Open(t.TempDir(), policy, r)
	if err != nil {
		t.Fatal(err)
	}
	s.MayUse("reg/preloaded:1", "preloaded", has())
	for _, image := range []string{"reg/app:1", "reg/other:1", "reg/open:1"} {
		if err := s.Begin(image); err != nil {
			t.Fatal(err)
		}
	}
	mine := fromSecret("mine", "h1")
	s.Pulled("reg/app:1", "app", &mine)
	s.Pulled("reg/open:1", "open", nil)
	s.MayUse("reg/app:1", "app", has(mine))
	s.MayUse("reg/app:1", "app", has())
	s.MayUse("reg/app:1", "app", func() ([]keyring.Credential, error) { return nil, errors.New("no") })
	s.MayUse("reg/open:1", "open", has())
	s.MayUse("reg/other:1", "other", has())
	want := `
# TYPE kubelet_imagemanager_image_mustpull_checks_total counter
kubelet_imagemanager_image_mustpull_checks_total{result="credentialPolicyAllowed"} 1
kubelet_imagemanager_image_mustpull_checks_total{result="credentialRecordFound"} 2
kubelet_imagemanager_image_mustpull_checks_total{result="error"} 1
kubelet_imagemanager_image_mustpull_checks_total{result="mustAuthenticate"} 2
# TYPE kubelet_imagemanager_ondisk_pulledrecords gauge
kubelet_imagemanager_ondisk_pulledrecords 2
# TYPE kubelet_imagemanager_ondisk_pullintents gauge
kubelet_imagemanager_ondisk_pullintents 1
`
	for _, name := range []string{"kubelet_imagemanager_image_mustpull_checks_total", "kubelet_imagemanager_ondisk_pulledrecords", "kubelet_imagemanager_ondisk_pullintents"} {
		if err := compare(r, want, name); err != nil {
			t.Error(err)
		}
	}
}

// compare compares a metric's values, not the words for people.
func compare(from prometheus.Gatherer, want, name string) error {
	families, err := from.Gather()
	if err != nil {
		return err
	}
	for _, f := range families {
		if f.GetName() == name {
			want = "# HELP " + name + " " + f.GetHelp() + "\n" + want
		}
	}
	return testutil.GatherAndCompare(from, strings.NewReader(want), name)
}
