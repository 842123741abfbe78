export default [
  {
    title: 'Kjøpe lisens',
    text: [
      'Finn lisensen i butikken og trykk Legg til. Åpne handlekurven øverst for å endre antallet, og gå til kassen når alt er med.',
      'I kassen bekrefter du bestillingen først. Da holder vi av plassene og prisen i ti minutter, mens du betaler. Lisensene gjelder straks du har betalt.',
    ],
  },
  {
    title: 'Hva koster sesongen?',
    text: [
      'Nederst i butikken kan du få et anslag. Velg gren og fyll inn alder, antall løp og antall mekanikere. Du kan legge alt i handlekurven med ett trykk.',
      'Anslaget er veiledende. Det er prisene i butikken som gjelder.',
    ],
  },
  {
    title: 'Uten nett',
    text: [
      'Du kan lese det du har sett før, også uten nett. Over listen står det når tallene er fra.',
      'Kjøp og notater blir lagret på enheten og sendt når du er på nett igjen. Øverst ser du hvor mange som venter. Hvert kjøp blir sendt én gang, også om du trykker to ganger.',
      'Blir et kjøp ikke godtatt, for eksempel fordi plassene er borte, står det i listen over det som venter. Da kan du fjerne det og bestille på nytt.',
    ],
  },
  {
    title: 'Ordrer og lisenser',
    text: [
      'Under Ordrer finner du kvitteringene dine, og under Lisenser det som gjelder nå. Søk på nummer, eller bruk filtrene. Adressen i nettleseren husker søket, så du kan dele den eller lagre den.',
      'I en lang liste flytter piltastene deg fra rad til rad.',
    ],
  },
  {
    title: 'For funksjonærer',
    text: [
      'Du ser alle ordrer, lisenser og brukere. Kryss av lisenser i listen for å suspendere dem eller gjøre dem gyldige igjen, mange på en gang. En ordre refunderes fra sin egen side.',
    ],
  },
  {
    title: 'Når noe går galt',
    text: [
      'Feiler en del av siden, virker resten. Prøv igjen, og oppgi feilnummeret hvis du tar kontakt med oss.',
      'Merket øverst viser hvordan tjenesten har det: en sirkel når alt virker, en trekant når det går tregt, et kvadrat når den er ute av drift, og en rute på skrå når du selv er frakoblet.',
    ],
  },
];
