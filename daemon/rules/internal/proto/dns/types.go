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

// knownType has the names of IANA's registry that are in use.
func knownType(t uint16) string {
	switch t {
	case TypeA:
		return "A"
	case 2:
		return "NS"
	case TypeCNAME:
		return "CNAME"
	case 6:
		return "SOA"
	case 12:
		return "PTR"
	case 13:
		return "HINFO"
	case 15:
		return "MX"
	case 16:
		return "TXT"
	case 17:
		return "RP"
	case 18:
		return "AFSDB"
	case 24:
		return "SIG"
	case 25:
		return "KEY"
	case TypeAAAA:
		return "AAAA"
	case 29:
		return "LOC"
	case 33:
		return "SRV"
	case 35:
		return "NAPTR"
	case 36:
		return "KX"
	case 37:
		return "CERT"
	case 39:
		return "DNAME"
	case TypeOPT:
		return "OPT"
	case 42:
		return "APL"
	case 43:
		return "DS"
	case 44:
		return "SSHFP"
	case 45:
		return "IPSECKEY"
	case 46:
		return "RRSIG"
	case 47:
		return "NSEC"
	case 48:
		return "DNSKEY"
	case 49:
		return "DHCID"
	case 50:
		return "NSEC3"
	case 51:
		return "NSEC3PARAM"
	case 52:
		return "TLSA"
	case 53:
		return "SMIMEA"
	case 55:
		return "HIP"
	case 59:
		return "CDS"
	case 60:
		return "CDNSKEY"
	case 61:
		return "OPENPGPKEY"
	case 62:
		return "CSYNC"
	case 63:
		return "ZONEMD"
	case 64:
		return "SVCB"
	case 65:
		return "HTTPS"
	case 249:
		return "TKEY"
	case 250:
		return "TSIG"
	case 251:
		return "IXFR"
	case 252:
		return "AXFR"
	case 253:
		return "MAILB"
	case 254:
		return "MAILA"
	case 255:
		return "ANY"
	case 256:
		return "URI"
	case 257:
		return "CAA"
	}
	return ""
}
