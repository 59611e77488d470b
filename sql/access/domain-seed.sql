-- Purpose: domains at which anybody has an address: no organization gets one of these, whoever runs its DNS. The large
-- ones and the best known for addresses that are thrown away; operators add what is missing
-- (access.share_domain), and theirs stay. Public suffixes need no list: a domain stands for itself alone, never for
-- what is under it, and only a registry can write under its own suffix. And the setting about joining.

set local row_security = on;

insert into access.shared_domains (domain)
  select regexp_split_to_table(btrim($names$
    gmail.com googlemail.com outlook.com outlook.de outlook.fr outlook.es outlook.it outlook.jp outlook.com.br
    hotmail.com hotmail.co.uk hotmail.de hotmail.fr hotmail.es hotmail.it hotmail.nl hotmail.be hotmail.com.br
    hotmail.co.jp hotmail.com.ar live.com live.co.uk live.de live.fr live.nl live.it live.be live.se live.dk
    live.no live.com.au live.com.mx live.ca live.cn msn.com passport.com windowslive.com yahoo.com yahoo.co.uk
    yahoo.co.in yahoo.co.id yahoo.co.jp yahoo.co.kr yahoo.co.nz yahoo.co.za yahoo.com.ar yahoo.com.au yahoo.com.br
    yahoo.com.cn yahoo.com.hk yahoo.com.mx yahoo.com.ph yahoo.com.sg yahoo.com.tr yahoo.com.tw yahoo.com.vn
    yahoo.ca yahoo.cn yahoo.de yahoo.dk yahoo.es yahoo.fr yahoo.gr yahoo.ie yahoo.in yahoo.it yahoo.jp yahoo.nl
    yahoo.no yahoo.pl yahoo.ro yahoo.se ymail.com rocketmail.com myyahoo.com aol.com aol.co.uk aol.de aol.fr
    aim.com icloud.com me.com mac.com proton.me protonmail.com protonmail.ch pm.me tuta.com tuta.io tutanota.com
    tutanota.de tutamail.com keemail.me hey.com zoho.com zohomail.com zohomail.eu fastmail.com fastmail.fm
    fastmail.net fastmail.org mailbox.org posteo.de posteo.net posteo.org hushmail.com hush.com startmail.com
    runbox.com riseup.net disroot.org mail.com email.com usa.com europe.com asia.com post.com consultant.com
    engineer.com doctor.com lawyer.com techie.com writeme.com dr.com gmx.de gmx.net gmx.at gmx.ch gmx.com gmx.eu
    gmx.us gmx.fr gmx.es gmx.co.uk web.de freenet.de t-online.de magenta.de arcor.de vodafone.de vodafonemail.de
    o2mail.de o2online.de online.de kabelmail.de unitybox.de email.de mail.de mein.gmx ok.de aon.at chello.at
    bluewin.ch sunrise.ch hispeed.ch orange.fr wanadoo.fr free.fr sfr.fr neuf.fr laposte.net bbox.fr
    club-internet.fr numericable.fr voila.fr alice.fr aliceadsl.fr libero.it virgilio.it alice.it tin.it tim.it
    tiscali.it iol.it inwind.it poste.it fastwebnet.it email.it telefonica.net terra.es ono.com wanadoo.es sapo.pt
    mail.telepac.pt netcabo.pt iol.pt btinternet.com btopenworld.com btconnect.com talktalk.net talk21.com sky.com
    virginmedia.com virgin.net blueyonder.co.uk ntlworld.com tiscali.co.uk o2.co.uk plusnet.com plus.net
    orange.net freeserve.co.uk eircom.net ziggo.nl kpnmail.nl planet.nl home.nl hetnet.nl xs4all.nl chello.nl
    casema.nl zonnet.nl upcmail.nl telenet.be skynet.be proximus.be pandora.be scarlet.be telia.com bredband.net
    comhem.se spray.se home.se online.no broadpark.no frisurf.no mail.dk stofanet.dk jubii.dk kolumbus.fi
    elisanet.fi luukku.com suomi24.fi wp.pl onet.pl onet.eu o2.pl interia.pl interia.eu gazeta.pl tlen.pl op.pl
    poczta.fm vp.pl seznam.cz email.cz centrum.cz post.cz volny.cz atlas.cz azet.sk centrum.sk zoznam.sk post.sk
    freemail.hu citromail.hu t-online.hu indamail.hu abv.bg mail.bg dir.bg inbox.lv apollo.lv inbox.lt mail.ee
    hot.ee online.ee mail.ru inbox.ru list.ru bk.ru internet.ru yandex.ru yandex.com ya.ru yandex.ua yandex.by
    yandex.kz rambler.ru lenta.ru autorambler.ru myrambler.ru ro.ru ukr.net i.ua meta.ua bigmir.net tut.by
    comcast.net xfinity.com verizon.net att.net sbcglobal.net bellsouth.net pacbell.net ameritech.net swbell.net
    cox.net charter.net spectrum.net rr.com roadrunner.com twc.com earthlink.net mindspring.com juno.com
    netzero.net netzero.com optonline.net optimum.net frontier.com frontiernet.net windstream.net centurylink.net
    q.com qwest.net embarqmail.com cableone.net suddenlink.net tds.net wowway.com rcn.com netscape.net
    netscape.com compuserve.com prodigy.net lycos.com excite.com inbox.com pobox.com rogers.com bell.net
    sympatico.ca shaw.ca telus.net videotron.ca cogeco.ca eastlink.ca bigpond.com bigpond.net.au optusnet.com.au
    iinet.net.au westnet.com.au tpg.com.au internode.on.net ozemail.com.au xtra.co.nz slingshot.co.nz uol.com.br
    bol.com.br terra.com.br ig.com.br globo.com globomail.com r7.com oi.com.br zipmail.com.br prodigy.net.mx
    fibertel.com.ar arnet.com.ar ciudad.com.ar qq.com vip.qq.com foxmail.com 163.com 126.com yeah.net vip.163.com
    sina.com sina.cn vip.sina.com sohu.com tom.com 139.com 189.cn wo.cn aliyun.com 21cn.com naver.com hanmail.net
    daum.net nate.com kakao.com docomo.ne.jp ezweb.ne.jp au.com softbank.ne.jp i.softbank.jp nifty.com
    biglobe.ne.jp excite.co.jp rediffmail.com indiatimes.com sify.com hinet.net pchome.com.tw netvigator.com
    singnet.com.sg walla.co.il walla.com netvision.net.il bezeqint.net mynet.com superonline.com turk.net
    telkomsa.net mweb.co.za webmail.co.za vodamail.co.za duck.com mozmail.com privaterelay.appleid.com
    simplelogin.com simplelogin.co aleeas.com anonaddy.com anonaddy.me passmail.net passinbox.com
    relay.firefox.com mailinator.com guerrillamail.com guerrillamail.net guerrillamail.org sharklasers.com grr.la
    10minutemail.com temp-mail.org tempmail.com yopmail.com yopmail.fr trashmail.com trashmail.de mailnesia.com
    maildrop.cc dispostable.com getnada.com mohmal.com emailondeck.com throwawaymail.com spamgourmet.com
    mintemail.com fakeinbox.com mailcatch.com tempinbox.com burnermail.io 33mail.com discard.email wegwerfmail.de
    byom.de
  $names$, E' \n'), E'[ \n]+')
on conflict (domain) do nothing;

-- Made after the list: what is audited is what operators do to it.
create or replace trigger _800_audit after insert or update or delete on access.shared_domains
  for each row execute function audit.record_change('', 'domain');
alter table access.shared_domains enable always trigger _800_audit;

insert into access.setting_definitions (name, type, description, read_permission, write_permission) values
  ('domain.join_role', 'role',
    'Role of those who join by proving an address at a domain of the organization; null: nobody does. It must permit no more than members have.',
    'setting.read', 'domain.update')
on conflict (name) do update
  set description = excluded.description, read_permission = excluded.read_permission, write_permission = excluded.write_permission;

reset row_security;
