package e2e

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestServiceVariables(t *testing.T) {
	n, ns := join(t)
	service, err := n.Cluster.Client.CoreV1().Services(ns).Create(t.Context(), &v1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "my-shop"},
		Spec:       v1.ServiceSpec{Ports: []v1.ServicePort{{Name: "web", Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	api, err := n.Cluster.Client.CoreV1().Services(metav1.NamespaceDefault).Get(t.Context(), "kubernetes", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// A pod that is bound while the agent starts has them, too.
	n.Kill()
	for name, links := range map[string]bool{"links": true, "none": false} {
		n.Create(ns, harness.Pod(name, `echo "$KUBERNETES_SERVICE_HOST $MY_SHOP_SERVICE_HOST $MY_SHOP_PORT_80_TCP_PORT $OWN"; sleep 1000`, quick, func(p *v1.Pod) {
			p.Spec.EnableServiceLinks = ptr.To(links)
			p.Spec.Containers[0].Env = []v1.EnvVar{{Name: "OWN", Value: "$(MY_SHOP_SERVICE_PORT)"}, {Name: "MY_SHOP_PORT_80_TCP_PORT", Value: "own"}}
		}))
	}
	n.Start()
	for name, want := range map[string]string{
		"links": api.Spec.ClusterIP + " " + service.Spec.ClusterIP + " own 80",
		"none":  api.Spec.ClusterIP + "  own $(MY_SHOP_SERVICE_PORT)",
	} {
		n.AwaitReady(ns, name)
		n.AwaitLog(ns, name, want+"\n")
	}
}
