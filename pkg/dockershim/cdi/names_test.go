package cdi

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

func TestNames(t *testing.T) {
	for _, tc := range []struct {
		name        string
		fields      []*cri.CDIDevice
		annotations map[string]string
		want        []string
		code        codes.Code
	}{
		{name: "no device", annotations: map[string]string{"note": "a/b=c"}},
		{name: "the field's come first and none comes twice",
			fields:      []*cri.CDIDevice{{Name: "v.com/gpu=1"}, {Name: "v.com/gpu=0"}, {Name: "v.com/gpu=1"}},
			annotations: map[string]string{"cdi.k8s.io/b": "v.com/gpu=0,v.com/gpu=3", "cdi.k8s.io/a": "v.com/gpu=2"},
			want:        []string{"v.com/gpu=1", "v.com/gpu=0", "v.com/gpu=2", "v.com/gpu=3"}},
		{name: "an unqualified name is refused", fields: []*cri.CDIDevice{{Name: "gpu0"}}, code: codes.InvalidArgument},
		{name: "a nil device is refused", fields: []*cri.CDIDevice{nil}, code: codes.InvalidArgument},
		{name: "an empty part of an annotation is refused", annotations: map[string]string{"cdi.k8s.io/a": "v.com/gpu=2,"}, code: codes.InvalidArgument},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Names(&cri.ContainerConfig{CDIDevices: tc.fields, Annotations: tc.annotations})
			if grpccode.Of(err) != tc.code || !slices.Equal(got, tc.want) {
				t.Errorf("got %q and %v, want %q and %v", got, err, tc.want, tc.code)
			}
		})
	}
}
