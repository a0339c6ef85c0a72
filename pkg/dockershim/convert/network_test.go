package convert

import (
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

func TestNetworkSandbox(t *testing.T) {
	config := sandboxConfig(func(c *cri.PodSandboxConfig) {
		c.PortMappings = []*cri.PortMapping{{ContainerPort: 80, HostPort: 8080}, {ContainerPort: 81}}
		c.Annotations = map[string]string{annotationIngress: "10M", annotationEgress: "1k"}
	})
	got, err := NetworkSandbox("id", config)
	if err != nil || len(got.Ports) != 1 || got.Ports[0].Protocol != "tcp" || got.Bandwidth.IngressRate != 1e7 || got.Bandwidth.EgressRate != 1000 || got.Bandwidth.EgressBurst == 0 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"fast", "1", "1E"} {
		config.Annotations[annotationEgress] = bad
		if _, err := NetworkSandbox("id", config); grpccode.Of(err) != codes.InvalidArgument {
			t.Errorf("bandwidth %q: %v", bad, err)
		}
	}
}
