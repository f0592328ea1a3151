package policy

import "fmt"

// Code names a kind of problem. It never changes its meaning; docs/problems.md has the cause and remedy of each.
// 10xx: the text is not a document. 11xx: its shape is wrong. 12xx: a value is. 13xx: values do not go together.
// 15xx: a document is not all that it seems. 16xx: documents and Services do not go together. These are warnings.
type Code uint16

const (
	CodeEncoding  Code = 1001 // not UTF-8, or a control character
	CodeSyntax    Code = 1002 // not YAML
	CodeTab       Code = 1003 // a tab indents
	CodeSize      Code = 1004 // more than a ConfigMap can hold
	CodeEmpty     Code = 1005 // no document
	CodeSeveral   Code = 1006 // several documents in one data key
	CodeAlias     Code = 1007 // YAML anchor or alias
	CodeTag       Code = 1008 // YAML tag
	CodeTooMany   Code = 1009 // more problems than are told
	CodeConfigMap Code = 1010 // not a ConfigMap that Kubernetes would take

	CodeKind      Code = 1101 // no kind, or none of ours
	CodeUnknown   Code = 1102 // unknown field
	CodeDuplicate Code = 1103 // the same key twice
	CodeType      Code = 1104 // a mapping where a number belongs, and so on
	CodeMissing   Code = 1105 // a field that must be written is not
	CodeExclusive Code = 1106 // fields that exclude each other
	CodeNull      Code = 1107 // a key without a value
	CodeNamespace Code = 1108 // a document where it is not good

	CodeRange     Code = 1201 // number, duration or count out of range
	CodeDuration  Code = 1202 // not a duration
	CodeWord      Code = 1203 // none of the words that are good here
	CodeNumber    Code = 1204 // not a number as the language writes them
	CodeName      Code = 1205 // not a name of a Service, namespace, label or so
	CodeHeader    Code = 1206 // not a header's name or value
	CodeReserved  Code = 1207 // a header that is not for policies to change
	CodePath      Code = 1208 // not a path
	CodeRegex     Code = 1209 // not an RE2 expression
	CodeRegexSize Code = 1210 // a regular expression that costs too much
	CodeMethod    Code = 1211 // not a method
	CodeHost      Code = 1212 // not a host name
	CodeStatus    Code = 1213 // not an HTTP status, or not one that is good here
	CodePrime     Code = 1214 // not a prime

	CodeWeights      Code = 1301 // weights whose sum is zero
	CodeRouteName    Code = 1302 // two routes of one name
	CodeBudget       Code = 1303 // budget together with maxRetries
	CodeRouteBudget  Code = 1304 // budget in a route
	CodeOrder        Code = 1305 // a least value above its greatest
	CodeHashOn       Code = 1306 // hash-based balancing and what it hashes on, one without the other
	CodePrefix       Code = 1307 // a prefix to replace where none is matched
	CodePolicyOption Code = 1308 // an option of another load balancing policy
	CodeCheckOption  Code = 1309 // an option of another kind of health check
	CodeUnproved     Code = 1310 // access by what no identity proves
	CodeNothing      Code = 1311 // a block that does nothing
	CodeTwice        Code = 1312 // the same entry twice
	CodeCredentials  Code = 1313 // credentials for any origin

	CodeNoEffectYet  Code = 1501 // understood, and without effect in this version
	CodeBreakerHTTP2 Code = 1502 // a bound that rarely binds on HTTP/2
	CodeTryTimeout   Code = 1503 // perTryTimeout not below timeout
	CodeRetryChain   Code = 1504 // retries that multiply along a chain of calls
	CodeLimitRewrite Code = 1505 // a rate limit that sees the rewritten request
	CodeUnreachable  Code = 1506 // a route that no request reaches
	CodeIgnoredKey   Code = 1507 // a data key that does not end in .yaml
	CodeIgnoredField Code = 1508 // a field without effect beside another one
	CodeRetryGRPC    Code = 1509 // gRPC conditions without the method POST
	CodeWeightless   Code = 1510 // targets with and without weights
	CodeUnlabelled   Code = 1511 // a ConfigMap with policies, but without the label
	CodeNobody       Code = 1512 // rules that allow nobody

	CodeConflict Code = 1601 // another document has set this field
	CodeSameName Code = 1602 // two ConfigMaps of one name

	// Found where documents are joined with what is running, so not by this package.
	CodeNoService   Code = 1611 // a Service that is not there, or has no endpoints of its own
	CodeNoPort      Code = 1612 // a port that a Service does not have
	CodeNoEndpoints Code = 1613 // a subset without pods
	CodeForeign     Code = 1614 // a Service of another namespace
	CodeNotHTTP     Code = 1615 // HTTP policy for a port that carries something else
	CodeRefused     Code = 1616 // proxies refused what a document was translated to; an error
	CodePlainText   Code = 1617 // a denial by identity on a port that takes plain text
	CodeDenying     Code = 1618 // an Access document without a good version denies what it covers; an error
	CodeSubsets     Code = 1619 // a subset beyond those that a Service may have
)

// String writes the code as messages and documentation have it.
func (c Code) String() string { return fmt.Sprintf("HDL%04d", uint16(c)) }

// MarshalText writes the code as String does.
func (c Code) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Severity of the problems that have this code.
func (c Code) Severity() Severity {
	if c < 1500 || c == CodeRefused || c == CodeDenying {
		return Error
	}
	return Warning
}

// Severity says whether a document with such a problem has effect.
type Severity string

const (
	// Error: the document has no effect, and the last good version of it stays in force.
	Error Severity = "error"
	// Warning: the document has effect, though perhaps not the one that was meant.
	Warning Severity = "warning"
)
