// SPDX-License-Identifier: Apache-2.0

package dns

import "strconv"

// Types that this package reads.
const (
	TypeA     = 1
	TypeCNAME = 5
	TypeAAAA  = 28
	TypeOPT   = 41
)

// TypeName returns a type's name, such as "AAAA" or, where it has none here,
// "TYPE65280" (RFC 3597). Only the latter allocates.
func TypeName(t uint16) string {
	if name := knownType(t); name != "" {
		return name
	}
	return string(AppendTypeName(nil, t))
}

// AppendTypeName appends what TypeName returns.
func AppendTypeName(b []byte, t uint16) []byte {
	if name := knownType(t); name != "" {
		return append(b, name...)
	}
	return strconv.AppendUint(append(b, "TYPE"...), uint64(t), 10)
}

// knownType has the names of IANA's registry that are in use. Its table is never copied.
func knownType(t uint16) string {
	const n = 258
	if t >= n {
		return ""
	}
	return [n]string{
		TypeA: "A", 2: "NS", TypeCNAME: "CNAME", 6: "SOA", 12: "PTR", 13: "HINFO", 15: "MX",
		16: "TXT", 17: "RP", 18: "AFSDB", 24: "SIG", 25: "KEY", TypeAAAA: "AAAA", 29: "LOC",
		33: "SRV", 35: "NAPTR", 36: "KX", 37: "CERT", 39: "DNAME", TypeOPT: "OPT", 42: "APL",
		43: "DS", 44: "SSHFP", 45: "IPSECKEY", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 49: "DHCID",
		50: "NSEC3", 51: "NSEC3PARAM", 52: "TLSA", 53: "SMIMEA", 55: "HIP", 59: "CDS",
		60: "CDNSKEY", 61: "OPENPGPKEY", 62: "CSYNC", 63: "ZONEMD", 64: "SVCB", 65: "HTTPS",
		249: "TKEY", 250: "TSIG", 251: "IXFR", 252: "AXFR", 253: "MAILB", 254: "MAILA", 255: "ANY",
		256: "URI", 257: "CAA",
	}[t]
}
