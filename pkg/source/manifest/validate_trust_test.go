package manifest

import (
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestValidateTrustBundle(t *testing.T) {
	const at = "spec.volumes[0].projected.sources[0].clusterTrustBundle"
	const subdomain = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
	const label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
	every := &metav1.LabelSelector{}
	for name, tt := range map[string]struct {
		b    v1.ClusterTrustBundleProjection
		want []string
	}{
		"by name":           {v1.ClusterTrustBundleProjection{Name: new("ca"), Path: "p"}, nil},
		"a name of signers": {v1.ClusterTrustBundleProjection{Name: new("example.com:ca:1"), Path: "p"}, nil},
		"by signer":         {v1.ClusterTrustBundleProjection{SignerName: new("example.com/my.ca"), LabelSelector: every, Path: "p"}, nil},
		"neither":           {v1.ClusterTrustBundleProjection{Path: "p"}, []string{at + ": Required value: either name or signerName must be specified"}},
		"no path":           {v1.ClusterTrustBundleProjection{Name: new("ca")}, []string{at + ".path: Required value"}},
		"a path outside":    {v1.ClusterTrustBundleProjection{Name: new("ca"), Path: "a/../../b"}, []string{at + ".path: Invalid value: \"a/../../b\": must not contain '..'"}},
		"an odd name":       {v1.ClusterTrustBundleProjection{Name: new("a:B"), Path: "p"}, []string{at + ".name: Invalid value: \"a:B\": not a valid clustertrustbundlename: " + subdomain}},
		"no name": {v1.ClusterTrustBundleProjection{Name: new(""), Path: "p"}, []string{
			at + ".name: Required value: must be a valid object name", at + ".name: Invalid value: \"\": not a valid clustertrustbundlename: " + subdomain}},
		"no signer": {v1.ClusterTrustBundleProjection{SignerName: new(""), Path: "p"}, []string{
			at + ".signerName: Required value: must be a valid signer name", at + ".signerName: Required value"}},
		"a signer of no domain": {v1.ClusterTrustBundleProjection{SignerName: new("ca"), Path: "p"}, []string{
			at + ".signerName: Invalid value: \"ca\": must be a fully qualified domain and path of the form 'example.com/signer-name'"}},
		"a signer of two": {v1.ClusterTrustBundleProjection{SignerName: new("a.b/c/d"), Path: "p"}, []string{
			at + ".signerName: Invalid value: \"a.b/c/d\": must be a fully qualified domain and path of the form 'example.com/signer-name'"}},
		"a short domain": {v1.ClusterTrustBundleProjection{SignerName: new("example/ca"), Path: "p"}, []string{
			at + ".signerName: Invalid value: \"example\": should be a domain with at least two segments separated by dots"}},
		"odd labels, one told of each": {v1.ClusterTrustBundleProjection{SignerName: new("A.B.c/D.E"), Path: "p"}, []string{
			at + ".signerName: Invalid value: \"A.B.c\": validating label \"A\": " + label, at + ".signerName: Invalid value: \"D.E\": validating label \"D\": " + subdomain}},
		"a long domain": {v1.ClusterTrustBundleProjection{SignerName: new(strings.Repeat("a.", 130) + "b/ca"), Path: "p"}, []string{
			at + ".signerName: Too long: may not be more than 253 bytes"}},
		"a wrong selector": {v1.ClusterTrustBundleProjection{SignerName: new("a.b/c"), Path: "p", LabelSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "k", Operator: "Like"}}}}, []string{
			at + ".labelSelector.matchExpressions[0].operator: Invalid value: \"Like\": not a valid selector operator"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := validPod()
			p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{{ClusterTrustBundle: &tt.b}}}}}}
			var got []string
			for _, e := range Validate(p) {
				if strings.HasPrefix(e.Field, at) {
					got = append(got, e.Error())
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
	both := validateTrustBundle(&v1.ClusterTrustBundleProjection{Name: new("a"), SignerName: new("a.b/c"), Path: "p"}, nil)
	if len(both) != 1 || both[0].Detail != "only one of name and signerName may be used" {
		t.Errorf("name and signer: %v", both)
	}
	labelled := validateTrustBundle(&v1.ClusterTrustBundleProjection{Name: new("a"), LabelSelector: every, Path: "p"}, nil)
	if len(labelled) != 1 || labelled[0].Detail != "labelSelector must be unset if name is specified" {
		t.Errorf("name and labels: %v", labelled)
	}
}
