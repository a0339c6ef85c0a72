package worker

import (
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestAResizeCountsWhoWasPromisedRoomOnce(t *testing.T) {
	pods := func(uids ...types.UID) (list []*v1.Pod) {
		for _, uid := range uids {
			list = append(list, &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}})
		}
		return list
	}
	for name, tt := range map[string]struct{ using, promised, want []types.UID }{
		"nobody waits":                    {[]types.UID{"a", "b"}, nil, []types.UID{"a", "b"}},
		"one waits while another ends":    {[]types.UID{"a", "b"}, []types.UID{"c"}, []types.UID{"a", "b", "c"}},
		"the other has ended":             {[]types.UID{"a"}, []types.UID{"c"}, []types.UID{"a", "c"}},
		"it has begun and is still noted": {[]types.UID{"a", "c"}, []types.UID{"c"}, []types.UID{"a", "c"}},
	} {
		var got []types.UID
		for _, p := range together(pods(tt.using...), pods(tt.promised...)) {
			got = append(got, p.UID)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
