package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ServiceRef names a Service. Namespace is empty where none was written.
type ServiceRef struct{ Namespace, Name string }

// ServicePattern names a Service or all Services of a namespace. Namespace is empty for the own one; * means all.
type ServicePattern struct{ Namespace, Name string }

// Labels select pods: those that have all of them.
type Labels map[string]string

// HostPattern is a host name outside the mesh, or *. and a domain for all names below it.
type HostPattern string

// HostPort is a host and a port.
type HostPort struct {
	Host string
	Port uint16
}

// String writes the reference as people do.
func (r ServiceRef) String() string {
	if r.Namespace == "" {
		return r.Name
	}
	return r.Namespace + "/" + r.Name
}

func (ServiceRef) form() form {
	return form{name: "Service", pattern: "^(" + labelPattern + "/)?" + labelPattern + "$"}
}

const labelPattern = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"

func (r *ServiceRef) setText(s string) *flaw {
	namespace, name, ok := strings.Cut(s, "/")
	if !ok {
		namespace, name = "", s
	}
	if !isLabel(name) || ok && !isLabel(namespace) {
		hint := "write name or namespace/name"
		if parts := strings.Split(s, "."); len(parts) > 1 && isLabel(parts[0]) && isLabel(parts[1]) {
			hint = fmt.Sprintf("write %s/%s", parts[1], parts[0])
		}
		return flawf(CodeName, hint, "%q does not name a Service", clip(s))
	}
	*r = ServiceRef{namespace, name}
	return nil
}

func (ServicePattern) form() form {
	return form{name: "Services", pattern: `^((\*|` + labelPattern + `)/)?(\*|` + labelPattern + ")$"}
}

func (r *ServicePattern) setText(s string) *flaw {
	namespace, name, ok := strings.Cut(s, "/")
	if !ok {
		namespace, name = "", s
	}
	if name != "*" && !isLabel(name) || ok && namespace != "*" && !isLabel(namespace) || namespace == "*" && name != "*" {
		return flawf(CodeName, "write name, *, namespace/name, namespace/* or */*", "%q does not name Services", clip(s))
	}
	*r = ServicePattern{namespace, name}
	return nil
}

func (Caller) form() form {
	return form{name: "caller", pattern: `^(\*|` + labelPattern + `)/(\*|` + subdomainPattern + ")$"}
}

const subdomainPattern = `[a-z0-9]([-a-z0-9.]*[a-z0-9])?`

func (c *Caller) setShort(s string) *flaw {
	namespace, account, ok := strings.Cut(s, "/")
	if !ok || namespace != "*" && !isLabel(namespace) || account != "*" && !isSubdomain(account) {
		hint := "write namespace/serviceAccount or namespace/*"
		if isLabel(s) {
			hint = fmt.Sprintf(`write "%s/*" for all of namespace %s`, s, s)
		}
		return flawf(CodeName, hint, "%q does not name callers", clip(s))
	}
	*c = Caller{Namespace: strings.TrimSuffix(namespace, "*"), ServiceAccount: strings.TrimSuffix(account, "*")}
	return nil
}

func (c *Caller) validate(at Path, p *problems) {
	if !p.wrote(at.Field("namespace")) && !p.wrote(at.Field("serviceAccount")) && !p.wrote(at.Field("labels")) {
		p.add(at, CodeNothing, `write namespace, serviceAccount or labels, or "*/*" for every workload`, "names nobody in particular")
	}
	if c.Namespace != "" && !isLabel(c.Namespace) {
		p.add(at.Field("namespace"), CodeName, "write a namespace's name", "%q is not a namespace", clip(c.Namespace))
	}
	if c.ServiceAccount != "" && !isSubdomain(c.ServiceAccount) {
		p.add(at.Field("serviceAccount"), CodeName, "write a ServiceAccount's name", "%q is not a ServiceAccount", clip(c.ServiceAccount))
	}
}

func (ls Labels) validate(at Path, p *problems) {
	for _, k := range slices.Sorted(maps.Keys(ls)) {
		v := ls[k]
		prefix, name, ok := strings.Cut(k, "/")
		if !ok {
			prefix, name = "", k
		}
		if !isLabelText(name) || ok && (!isSubdomain(prefix)) {
			p.addKey(at.Key(k), CodeName, "write it as Kubernetes does: app or example.com/app", "%q is not a label's key", clip(k))
		}
		if v != "" && !isLabelText(v) {
			p.add(at.Key(k), CodeName, "write up to 63 letters, digits, -, _ and .", "%q is not a label's value", clip(v))
		}
	}
}

func (HostPattern) form() form {
	return form{name: "host", pattern: `^(\*\.)?` + subdomainPattern + "$"}
}

func (h *HostPattern) setText(s string) *flaw {
	if !isSubdomain(strings.TrimPrefix(s, "*.")) {
		return flawf(CodeHost, "write one such as api.example.com or *.example.com", "%q is not a host name", clip(s))
	}
	*h = HostPattern(s)
	return nil
}

func (HostPort) form() form { return form{name: "host:port", pattern: "^[^:/ ]+:[0-9]+$"} }

func (h *HostPort) setText(s string) *flaw {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || !isSubdomain(s[:i]) {
		return flawf(CodeHost, "write one such as collector.tracing:4317", "%q is not host:port", clip(s))
	}
	var port Port
	if flaw := port.setText(s[i+1:]); flaw != nil {
		return flawf(CodeHost, "write one such as collector.tracing:4317", "%q does not end in a port", clip(s))
	}
	*h = HostPort{s[:i], uint16(port)}
	return nil
}

// checkHost holds a host with an optional port to the syntax of a Host header.
func checkHost(s string, at Path, p *problems) {
	if s == "" {
		return
	}
	host, port, hasPort := strings.Cut(s, ":")
	var n Port
	if !isSubdomain(strings.ToLower(host)) || hasPort && n.setText(port) != nil {
		p.add(at, CodeHost, "write one such as api.example.com or api.example.com:8080", "%q is not a host", clip(s))
	}
}

// isLabel says whether s is an RFC 1123 label, as the names of Services and namespaces are.
func isLabel(s string) bool {
	return len(s) <= 63 && !strings.Contains(s, ".") && isSubdomain(s)
}

// isSubdomain says whether s is an RFC 1123 subdomain, as the names of most objects are.
func isSubdomain(s string) bool {
	return len(s) <= 253 && !slices.ContainsFunc(strings.Split(s, "."), func(part string) bool {
		return part == "" || part[0] == '-' || part[len(part)-1] == '-' || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789-") != ""
	})
}

// isLabelText says whether s is good as a label's value, or as its key without prefix.
func isLabelText(s string) bool {
	const alnum = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return s != "" && len(s) <= 63 && strings.Trim(s, alnum+"-_.") == "" &&
		strings.Contains(alnum, s[:1]) && strings.Contains(alnum, s[len(s)-1:])
}
