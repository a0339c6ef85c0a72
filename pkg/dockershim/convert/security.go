package convert

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// user is Docker's "user[:group]". A group needs a user (cri-api).
func user(field string, uid *cri.Int64Value, name string, gid *cri.Int64Value) (string, error) {
	for f, v := range map[string]*cri.Int64Value{"run_as_user": uid, "run_as_group": gid} {
		if v != nil && (v.Value < 0 || v.Value > math.MaxInt32) {
			return "", grpccode.Invalid(field+"."+f, "%d is no id", v.Value)
		}
	}
	who := name
	if uid != nil {
		who = strconv.FormatInt(uid.Value, 10)
	}
	if strings.ContainsAny(name, ":\x00") {
		return "", grpccode.Invalid(field+".run_as_username", "%q is no user name", name)
	}
	if gid == nil {
		return who, nil
	}
	if who == "" {
		return "", grpccode.Invalid(field+".run_as_group", "is given without a user")
	}
	return who + ":" + strconv.FormatInt(gid.Value, 10), nil
}

func groups(ids []int64) []string {
	var all []string
	for _, id := range ids {
		all = append(all, strconv.FormatInt(id, 10))
	}
	return all
}

// securityProfiles are the parts of a security context that become Docker's security options.
type securityProfiles struct {
	seccomp, apparmor *cri.SecurityProfile
	apparmorName      string // the field that came before apparmor
	selinux           *cri.SELinuxOption
	noNewPrivileges   bool
	privileged        bool
}

func (p Platform) securityOptions(field string, s securityProfiles) ([]string, error) {
	var options []string
	if s.noNewPrivileges && !s.privileged {
		options = append(options, "no-new-privileges")
	}
	for _, convert := range []func(string, securityProfiles) (string, error){p.seccompOption, p.appArmorOption} {
		option, err := convert(field, s)
		if err != nil {
			return nil, err
		}
		if option != "" {
			options = append(options, option)
		}
	}
	if l := s.selinux; l != nil {
		for kind, value := range map[string]string{"user": l.User, "role": l.Role, "type": l.Type, "level": l.Level} {
			if value != "" {
				options = append(options, "label="+kind+":"+value)
			}
		}
	}
	return options, nil
}

// seccompOption converts the seccomp profile. No profile at all means unconfined, as in other
// CRI runtimes.
func (p Platform) seccompOption(field string, s securityProfiles) (string, error) {
	field += ".seccomp"
	if s.privileged {
		return "", nil // Docker runs it unconfined
	}
	switch t := s.seccomp.GetProfileType(); {
	case s.seccomp == nil, t == cri.SecurityProfile_Unconfined:
		return "seccomp=unconfined", nil
	case t == cri.SecurityProfile_RuntimeDefault:
		return "", nil
	case t == cri.SecurityProfile_Localhost:
		path := strings.TrimPrefix(s.seccomp.LocalhostRef, "localhost/")
		if err := checkAbsolute(field+".localhost_ref", path); err != nil {
			return "", err
		}
		text, err := p.ReadFile(path)
		if err != nil {
			return "", grpccode.Invalid(field+".localhost_ref", "read the seccomp profile: %v", err)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, text); err != nil {
			return "", grpccode.Invalid(field+".localhost_ref", "seccomp profile %s is not JSON: %v", path, err)
		}
		return "seccomp=" + compact.String(), nil
	default:
		return "", grpccode.Invalid(field+".profile_type", "%d is not known", t)
	}
}

func (p Platform) appArmorOption(field string, s securityProfiles) (string, error) {
	profile := s.apparmor
	if profile == nil {
		switch name, isLocal := strings.CutPrefix(s.apparmorName, "localhost/"); {
		case s.apparmorName == "", s.apparmorName == "runtime/default":
			return "", nil
		case s.apparmorName == "unconfined":
			profile = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}
		case isLocal:
			profile = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: name}
		default:
			return "", grpccode.Invalid(field+".apparmor_profile", "%q: want runtime/default, unconfined or localhost/<profile>", s.apparmorName)
		}
	}
	switch t := profile.ProfileType; t {
	case cri.SecurityProfile_RuntimeDefault:
		return "", nil
	case cri.SecurityProfile_Unconfined:
		if !p.AppArmor {
			return "", nil
		}
		return "apparmor=unconfined", nil
	case cri.SecurityProfile_Localhost:
		name := strings.TrimPrefix(profile.LocalhostRef, "localhost/")
		if name == "" {
			return "", grpccode.Invalid(field+".apparmor.localhost_ref", "is empty")
		}
		if name == "unconfined" {
			// Docker would take this for no profile at all. Pod Security's baseline allows the
			// node's profiles, and does not allow to run without one.
			return "", grpccode.Invalid(field+".apparmor.localhost_ref", "%q is no profile", name)
		}
		if !p.AppArmor {
			return "", grpccode.Invalid(field+".apparmor", "profile %q is wanted, but Docker runs without AppArmor here", name)
		}
		return "apparmor=" + name, nil
	default:
		return "", grpccode.Invalid(field+".apparmor.profile_type", "%d is not known", t)
	}
}

// capabilities converts names of capabilities; Docker's have no prefix CAP_.
func capabilities(field string, names []string) ([]string, error) {
	var all []string
	for _, name := range names {
		short := strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		if short == "" || strings.Trim(short, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") != "" {
			return nil, grpccode.Invalid(field, "%q is no capability", name)
		}
		all = append(all, short)
	}
	return all, nil
}
